// What a device has done, by queue and by kind of request: the core counts kinds by number, the device has their names.
import type { Device, RequestKind } from "../devices/device.ts";
import type {
  Latency,
  QueueCounts,
  QueueStatistics,
  RingState,
  WorkerStatistics,
} from "../workers/statistics.ts";

/** The one kind of a device that names none. */
const CHAIN: RequestKind = { name: "chain", count: "chains", isTimed: true };

export interface KindActivity {
  readonly kind: RequestKind;
  /** Those that ended well. */
  readonly requests: number;
  /** Of its data, both ways for a device that names no kinds; 0 where it moves none. */
  readonly bytes: number;
  /** Of those that were timed. */
  readonly latency: Latency;
}

export interface QueueActivity {
  readonly index: number;
  readonly state: RingState;
  readonly size: number;
  readonly isPacked: boolean;
  readonly hasEventIdx: boolean;
  readonly inFlight: number;
  /** In the order of the device's kinds. */
  readonly kinds: readonly KindActivity[];
  /** To the driver. */
  readonly bytesIn: number;
  /** From the driver. */
  readonly bytesOut: number;
  readonly failures: number;
  readonly kicks: number;
  readonly calls: number;
  /** Nanoseconds that the request which was next has waited for a limit. */
  readonly waitedNs: number;
}

/** By name, in the order of a log line: what each kind did, then failures, notifications and broken rings. */
export type Counts = Record<string, number>;

/** What can be asked of a running device while it goes on. */
export interface Activity {
  readonly kinds: readonly RequestKind[];
  queues(): QueueActivity[];
  workers(): WorkerStatistics[];
  /** Over all queues, since the start. */
  counts(): Counts;
  /** Whether requests are timed. */
  isTimed: boolean;
}

/** What the workers count, as it lies in linear memory. */
export interface Counters {
  queues(): QueueStatistics[];
  workers(): WorkerStatistics[];
  setTimed(isTimed: boolean): void;
  readonly isTimed: boolean;
  /** All that was counted, for a successor; of a predecessor. */
  save(): QueueCounts[];
  restore(saved: readonly QueueCounts[]): void;
}

export class DeviceActivity implements Activity {
  readonly kinds: readonly RequestKind[];

  constructor(
    device: Pick<Device, "kinds">,
    private readonly counters: Counters,
    private readonly brokenRings: () => number,
  ) {
    this.kinds = device.kinds ?? [CHAIN];
  }

  queues(): QueueActivity[] {
    return this.counters.queues().map((queue) => activityOf(queue, this.kinds));
  }

  workers(): WorkerStatistics[] {
    return this.counters.workers();
  }

  counts(): Counts {
    const counts: Counts = {};
    for (const queue of this.queues())
      for (const [name, value] of countsOf(queue)) counts[name] = (counts[name] ?? 0) + value;
    return { ...counts, brokenRings: this.brokenRings() };
  }

  get isTimed(): boolean {
    return this.counters.isTimed;
  }

  set isTimed(isTimed: boolean) {
    this.counters.setTimed(isTimed);
  }
}

/** What was done between two looks. */
export function difference(after: Counts, before: Counts): Counts {
  return Object.fromEntries(
    Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]),
  );
}

/** What was done while a front-end was served, which it may be several times. */
export class Tally {
  private sum: Counts;
  private start: Counts | undefined;

  /** `sum`: what a predecessor has done of it. */
  constructor(
    private readonly now: () => Counts,
    sum?: Counts,
  ) {
    const counts = now();
    this.sum = { ...difference(counts, counts), ...sum };
  }

  /** Up to now. */
  get soFar(): Counts {
    if (this.start === undefined) return this.sum;
    return added(this.sum, difference(this.now(), this.start));
  }

  begin(): void {
    this.start = this.now();
  }

  end(): void {
    if (this.start === undefined) return;
    const done = difference(this.now(), this.start);
    this.start = undefined;
    this.sum = added(this.sum, done);
  }

  get counts(): Counts {
    return this.sum;
  }
}

function added(sum: Counts, more: Counts): Counts {
  return Object.fromEntries(Object.entries(sum).map(([name, value]) => [name, value + (more[name] ?? 0)]));
}

function countsOf({ kinds, bytesIn, bytesOut, failures, kicks, calls }: QueueActivity): [string, number][] {
  const ofKinds = kinds.flatMap(({ kind, requests, bytes }): [string, number][] => [
    [kind.count, requests],
    ...(kind.data ? [[kind.data.count, bytes] as [string, number]] : []),
  ]);
  const isNamed = kinds.some(({ kind }) => kind.data !== undefined);
  const inAll: [string, number][] = isNamed ? [] : [["bytesIn", bytesIn], ["bytesOut", bytesOut]]; // biome-ignore format: a pair each
  return [...ofKinds, ...inAll, ["failures", failures], ["kicks", kicks], ["calls", calls]];
}

const NO_LATENCY: Latency = { sumNs: 0, buckets: [] };

function activityOf(
  { counters, latencies, ...queue }: QueueStatistics,
  kinds: readonly RequestKind[],
): QueueActivity {
  const { operations, ...others } = counters;
  return {
    ...queue,
    ...others,
    kinds: kinds.map((kind, i) => ({
      kind,
      requests: operations[i] ?? 0,
      bytes: bytesOf(kind, others),
      latency: (kind.isTimed ? latencies[i] : undefined) ?? NO_LATENCY,
    })),
  };
}

function bytesOf(
  kind: RequestKind,
  { bytesIn, bytesOut }: Pick<QueueActivity, "bytesIn" | "bytesOut">,
): number {
  if (kind === CHAIN) return bytesIn + bytesOut;
  if (kind.data === undefined) return 0;
  return kind.data.direction === "in" ? bytesIn : bytesOut;
}
