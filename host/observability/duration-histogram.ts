// The workers' histograms as prom-client wants a metric: its own kind can't be given counts that others have made.
import type { QueueActivity } from "../backend/activity.ts";
import type { RequestKind } from "../devices/device.ts";
import type { Latency } from "../workers/statistics.ts";

/** Upper bounds: powers of two from 1 us to 8.6 s, at which buckets of the core end, so no count is a guess. */
const BOUNDS_NS = Array.from({ length: 24 }, (_, i) => 2 ** (10 + i));

const NS_PER_S = 1e9;

interface Value {
  metricName: string;
  labels: Record<string, string | number>;
  value: number;
}

export class DurationHistogram {
  readonly type = "histogram";

  constructor(
    readonly name: string,
    readonly help: string,
    private readonly devices: () => readonly { labels: Value["labels"]; queues: readonly QueueActivity[] }[],
  ) {}

  get() {
    return { name: this.name, help: this.help, type: this.type, aggregator: "sum", values: this.values() };
  }

  reset(): void {}

  private values(): Value[] {
    return this.devices().flatMap(({ labels, queues }) =>
      queues.flatMap(({ index, kinds }) =>
        kinds
          .filter(({ latency }) => latency.buckets.length > 0)
          .flatMap(({ kind, latency }) =>
            this.histogram({ queue: index, op: opOf(kind), ...labels }, latency),
          ),
      ),
    );
  }

  private histogram(labels: Value["labels"], { sumNs, buckets }: Latency): Value[] {
    const within = (boundNs: number) =>
      buckets.reduce((sum, [, toNs, count]) => (toNs <= boundNs ? sum + count : sum), 0);
    const bucket = (le: number | string, value: number) => ({
      metricName: `${this.name}_bucket`,
      labels: { ...labels, le },
      value,
    });
    const total = within(Number.POSITIVE_INFINITY);
    return [
      ...BOUNDS_NS.map((boundNs) => bucket(boundNs / NS_PER_S, within(boundNs))),
      bucket("+Inf", total),
      { metricName: `${this.name}_sum`, labels, value: sumNs / NS_PER_S },
      { metricName: `${this.name}_count`, labels, value: total },
    ];
  }
}

/** A kind's name as Prometheus spells names: "write_zeroes". */
export function opOf({ name }: Pick<RequestKind, "name">): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
