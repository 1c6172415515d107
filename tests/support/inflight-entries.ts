// What an inflight region says, as anyone can read it (vhost-user, "Inflight I/O tracking").
import {
  INFLIGHT_ALIGN,
  PACKED_ENTRIES,
  PACKED_ENTRY_INFLIGHT,
  PACKED_ENTRY_SIZE,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_SIZE,
} from "../../assembly/spec/inflight.ts";

/** Bytes that one queue's part takes. */
export function inflightStride(queueSize: number, isPacked: boolean): number {
  const byteLength = isPacked
    ? PACKED_ENTRIES + queueSize * PACKED_ENTRY_SIZE
    : SPLIT_ENTRIES + queueSize * SPLIT_ENTRY_SIZE;
  return Math.ceil(byteLength / INFLIGHT_ALIGN) * INFLIGHT_ALIGN;
}

/** Requests that are recorded as in flight, over all queues of a region that the daemon made: each has an equal share. */
export function countInflight(
  bytes: Buffer,
  { mmapSize, numQueues }: { mmapSize: bigint; numQueues: number },
  isPacked: boolean,
): number {
  const [start, step, flag] = isPacked
    ? [PACKED_ENTRIES, PACKED_ENTRY_SIZE, PACKED_ENTRY_INFLIGHT]
    : [SPLIT_ENTRIES, SPLIT_ENTRY_SIZE, SPLIT_ENTRY_INFLIGHT];
  const share = Number(mmapSize) / numQueues;
  let count = 0;
  for (let queue = 0; queue < numQueues; queue++) {
    for (let at = start; at + step <= share; at += step)
      count += bytes[queue * share + at + flag] === 0 ? 0 : 1;
  }
  return count;
}
