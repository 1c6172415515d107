// What happened between two looks at one daemon, by queue and altogether. Pure.

import { type Bucket, percentileNs, since, together } from "../../histogram.ts";
import {
  type OperationStats,
  type QueueStats,
  type Stats,
  untimedRequests,
} from "../../observability/stats.ts";

export interface Rate {
  /** A second. */
  requests: number;
  bytes: number;
  p50Ns: number | null;
  p99Ns: number | null;
}

export interface QueueRates {
  /** Undefined: all queues together. */
  queue: number | undefined;
  state: string;
  all: Rate;
  read: Rate;
  write: Rate;
  /** Of a disk: flushes, discards, write-zeroes and requests for the serial number. Of other devices: all. */
  other: Rate;
  inFlight: number;
  /** A second. */
  failures: number;
  kicks: number;
  calls: number;
  /** Of the looks before a sleep, the part that found something; null if there were none. Of all workers together. */
  pollsPaid: number | null;
}

/** What one kind of request did in a queue, before it is divided by time. */
interface Change {
  requests: number;
  bytes: number;
  buckets: Bucket[];
}

/** First all queues together, then each that is used. Undefined if the daemon is another now. */
export function ratesBetween(before: Stats, after: Stats): QueueRates[] | undefined {
  const seconds = after.uptimeSeconds - before.uptimeSeconds;
  // A daemon lists more queues once more of them have started, never fewer.
  if (seconds <= 0 || before.queues.length > after.queues.length) return undefined;
  const pairs = before.queues.map((queue, at) => [queue, after.queues[at]!] as const);
  const used = pairs.filter(([, queue]) => queue.state !== "stopped");
  const pollsPaid = partOfPolls(before, after);
  return [
    ratesOf(undefined, pairs, seconds, pollsPaid),
    ...used.map((pair) => ratesOf(pair[1].index, [pair], seconds, null)),
  ];
}

type Pair = readonly [before: QueueStats, after: QueueStats];

function ratesOf(
  queue: number | undefined,
  pairs: readonly Pair[],
  seconds: number,
  pollsPaid: number | null,
): QueueRates {
  const changed = (of: (queue: QueueStats) => number) =>
    pairs.reduce((sum, [before, after]) => sum + of(after) - of(before), 0);
  const read = changeOf(pairs, ({ operations }) => named(operations, (name) => name === "read"));
  const write = changeOf(pairs, ({ operations }) => named(operations, (name) => name === "write"));
  const others = changeOf(pairs, ({ operations }) =>
    named(operations, (name) => name !== "read" && name !== "write"),
  );
  const other = { ...others, requests: others.requests + changed(untimedRequests) };
  return {
    queue,
    state: queue === undefined ? "" : pairs[0]![1].state,
    all: rateOf(sumOf([read, write, other]), seconds),
    read: rateOf(read, seconds),
    write: rateOf(write, seconds),
    other: rateOf(other, seconds),
    inFlight: pairs.reduce((sum, [, after]) => sum + after.inFlight, 0),
    failures: changed(({ failures }) => failures) / seconds,
    kicks: changed(({ kicks }) => kicks) / seconds,
    calls: changed(({ calls }) => calls) / seconds,
    pollsPaid,
  };
}

function named(operations: QueueStats["operations"], isWanted: (name: string) => boolean): OperationStats[] {
  return Object.keys(operations)
    .filter(isWanted)
    .map((name) => operations[name]!);
}

function changeOf(pairs: readonly Pair[], operations: (queue: QueueStats) => OperationStats[]): Change {
  return sumOf(
    pairs.flatMap(([before, after]) => {
      const earlier = operations(before);
      return operations(after).map((operation, at) => ({
        requests: operation.requests - earlier[at]!.requests,
        bytes: operation.bytes - earlier[at]!.bytes,
        buckets: since(earlier[at]!.latency.buckets, operation.latency.buckets),
      }));
    }),
  );
}

function sumOf(changes: readonly Change[]): Change {
  return {
    requests: changes.reduce((sum, { requests }) => sum + requests, 0),
    bytes: changes.reduce((sum, { bytes }) => sum + bytes, 0),
    buckets: together(changes.map(({ buckets }) => buckets)),
  };
}

function rateOf({ requests, bytes, buckets }: Change, seconds: number): Rate {
  return {
    requests: requests / seconds,
    bytes: bytes / seconds,
    p50Ns: percentileNs(buckets, 50),
    p99Ns: percentileNs(buckets, 99),
  };
}

function partOfPolls(before: Stats, after: Stats): number | null {
  const changed = (of: (worker: Stats["workers"][number]) => number) =>
    after.workers.reduce((sum, worker, at) => sum + of(worker) - of(before.workers[at]!), 0);
  const paid = changed(({ pollsPaid }) => pollsPaid);
  const all = paid + changed(({ pollsInVain }) => pollsInVain);
  return all === 0 ? null : paid / all;
}
