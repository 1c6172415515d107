// What Prometheus reads: the workers' counts and histograms, put into words only when it asks.
import { Counter, Gauge, type Metric, Registry } from "prom-client";
import manifest from "../../package.json" with { type: "json" };
import type { QueueStatistics } from "../workers/statistics.ts";
import type { Attention } from "./attention.ts";
import { DurationHistogram } from "./duration-histogram.ts";
import type { Answer } from "./http-server.ts";
import { ResidentMemory } from "./resident-memory.ts";
import type { Subject } from "./subject.ts";

const PREFIX = "vringd_blk";

/** Values of the label `op`, by the number of the kind of operation. */
const OPS = ["read", "write", "flush", "discard", "write_zeroes", "get_id"];

type Labels = Record<string, string | number>;
type Series = [labels: Labels, value: number][];

export class Metrics {
  private readonly registry = new Registry();
  private readonly memory = new ResidentMemory();

  constructor(
    private readonly subject: Subject,
    private readonly attention: Attention,
  ) {
    this.addDevice();
    this.addQueues();
    this.addWorkers();
    this.addProcess();
  }

  async answer(): Promise<Answer> {
    this.attention.look();
    const body = await this.registry.metrics();
    return { status: 200, contentType: this.registry.contentType, body };
  }

  close(): void {
    this.memory.close();
  }

  private addDevice(): void {
    const { disk, dataPlane, frontEnd } = this.subject;
    const info = { version: manifest.version, engine: dataPlane.engine, disk: disk.name };
    this.gauge("info", "What runs here, in its labels; always 1.", () => [[info, 1]]);
    this.gauge("size_bytes", "Size of the disk.", () => [[{}, Number(disk.byteLength)]]);
    this.gauge("read_only", "Whether the disk is read-only.", () => [[{}, Number(disk.readOnly)]]);
    this.gauge("front_end_connected", "Whether a front-end is connected.", () => [
      [{}, Number(frontEnd() !== undefined)],
    ]);
    this.counter("rings_broken_total", "Rings that their drivers broke.", () => [
      [{}, dataPlane.counters().brokenRings],
    ]);
  }

  private addQueues(): void {
    this.counter("requests_total", "Requests that ended well.", () =>
      this.queues().flatMap(({ index, counters }) =>
        OPS.map((op, kind): Series[number] => [{ queue: index, op }, counters.operations[kind]!]),
      ),
    );
    this.counter("bytes_total", "Bytes of data read and written.", () =>
      this.queues().flatMap(
        ({ index, counters }): Series => [
          [{ queue: index, op: "read" }, counters.bytesIn],
          [{ queue: index, op: "write" }, counters.bytesOut],
        ],
      ),
    );
    this.counter("failed_requests_total", "Requests that ended with an error status.", () =>
      this.eachQueue(({ counters }) => counters.failures),
    );
    this.counter("kicks_total", "Kicks that came from the driver.", () =>
      this.eachQueue(({ counters }) => counters.kicks),
    );
    this.counter("calls_total", "Calls that went to the driver.", () =>
      this.eachQueue(({ counters }) => counters.calls),
    );
    this.gauge("requests_in_flight", "Requests taken from the ring and not yet used.", () =>
      this.eachQueue(({ inFlight }) => inFlight),
    );
    this.gauge("ring_running", "Whether the ring is running; a broken one is not.", () =>
      this.eachQueue(({ state }) => Number(state === "running")),
    );
    const durations = new DurationHistogram(
      `${PREFIX}_request_duration_seconds`,
      "From when a request is taken from its ring to when it is used, of those that ended well while somebody looked.",
      () => this.queues(),
    );
    this.registry.registerMetric(durations as unknown as Metric);
  }

  private addWorkers(): void {
    const workers = () => this.subject.dataPlane.statistics.workers();
    this.counter("worker_turns_total", "Turns of a worker's loop.", () =>
      workers().map(({ index, turns }) => [{ worker: index }, turns]),
    );
    this.counter("worker_sleeps_total", "How often a worker went to sleep.", () =>
      workers().map(({ index, sleeps }) => [{ worker: index }, sleeps]),
    );
    this.counter("worker_polls_total", "How often a worker looked for more before a sleep.", () =>
      workers().flatMap(
        ({ index, pollsPaid, pollsInVain }): Series => [
          [{ worker: index, result: "paid" }, pollsPaid],
          [{ worker: index, result: "in_vain" }, pollsInVain],
        ],
      ),
    );
  }

  /** By the names that all programs have for them. */
  private addProcess(): void {
    const startSeconds = Date.now() / 1000 - process.uptime();
    this.gauge("process_start_time_seconds", "Start of the process, in Unix time.", () => [
      [{}, startSeconds],
    ]);
    this.counter("process_cpu_seconds_total", "Processor time taken, of the user and of the system.", () => {
      const { user, system } = process.cpuUsage();
      return [[{}, (user + system) / 1e6]];
    });
    this.gauge("process_resident_memory_bytes", "Resident memory.", () => [[{}, this.memory.read()]]);
  }

  /** Those that are there for a guest, or were. */
  private queues(): QueueStatistics[] {
    const queues = this.subject.dataPlane.statistics.queues();
    return queues.filter(({ state, counters }) => {
      const { operations, ...others } = counters;
      const counts = [...operations, ...Object.values(others)];
      return state !== "stopped" || counts.some((count) => count > 0);
    });
  }

  private eachQueue(value: (queue: QueueStatistics) => number): Series {
    return this.queues().map((queue) => [{ queue: queue.index }, value(queue)]);
  }

  private counter(name: string, help: string, collect: () => Series): void {
    const counter = new Counter({
      name: fullName(name),
      help,
      labelNames: labelNames(name),
      registers: [this.registry],
      collect: () => {
        counter.reset();
        for (const [labels, value] of collect()) counter.inc(labels, value);
      },
    });
  }

  private gauge(name: string, help: string, collect: () => Series): void {
    const gauge = new Gauge({
      name: fullName(name),
      help,
      labelNames: labelNames(name),
      registers: [this.registry],
      collect: () => {
        gauge.reset();
        for (const [labels, value] of collect()) gauge.set(labels, value);
      },
    });
  }
}

function fullName(name: string): string {
  return name.startsWith("process_") ? name : `${PREFIX}_${name}`;
}

function labelNames(name: string): string[] {
  if (name === "info") return ["version", "engine", "disk"];
  return ["queue", "op", "worker", "result"];
}
