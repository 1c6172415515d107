// The block device's kinds of request, and what was done of each by the names that statistics have for them.

/** In the order in which the core counts them. */
export const KINDS = ["read", "write", "flush", "discard", "writeZeroes", "id"] as const;

/** Those that are timed, and that an engine can fail, in the order of LATENCY_*. */
export const TIMED_KINDS = ["read", "write", "flush", "discard", "writeZeroes"] as const;

/** Requests by what became of them, notifications, and rings that broke. */
export interface BlockCounts {
  reads: number;
  readBytes: number;
  writes: number;
  writtenBytes: number;
  flushes: number;
  discards: number;
  writeZeroes: number;
  ids: number;
  failures: number;
  kicks: number;
  calls: number;
  brokenRings: number;
}

/** What the data plane counts of a device. */
interface DeviceCounts {
  /** By the number of the kind. */
  operations: readonly number[];
  bytesIn: number;
  bytesOut: number;
  failures: number;
  kicks: number;
  calls: number;
  brokenRings: number;
}

export function blockCounts({ operations, bytesIn, bytesOut, ...others }: DeviceCounts): BlockCounts {
  const { failures, kicks, calls, brokenRings } = others;
  const of = (kind: (typeof KINDS)[number]) => operations[KINDS.indexOf(kind)]!;
  return {
    reads: of("read"),
    readBytes: bytesIn,
    writes: of("write"),
    writtenBytes: bytesOut,
    flushes: of("flush"),
    discards: of("discard"),
    writeZeroes: of("writeZeroes"),
    ids: of("id"),
    failures,
    kicks,
    calls,
    brokenRings,
  };
}

/** What was done from `before` to `after`. */
export function blockCountsBetween(before: BlockCounts, after: BlockCounts): BlockCounts {
  const difference = { ...after };
  for (const name of Object.keys(difference) as (keyof BlockCounts)[]) difference[name] -= before[name];
  return difference;
}
