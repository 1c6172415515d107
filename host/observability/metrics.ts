// What Prometheus reads: the workers' counts and histograms, put into words only when it asks.
import { Counter, Gauge, type Metric, Registry } from "prom-client";
import manifest from "../../package.json" with { type: "json" };
import type { QueueActivity } from "../backend/activity.ts";
import type { DeviceGauge } from "../devices/device.ts";
import type { WorkerStatistics } from "../workers/statistics.ts";
import { DurationHistogram, opOf } from "./duration-histogram.ts";
import type { Answer } from "./http-server.ts";
import type { ResidentMemory } from "./resident-memory.ts";
import type { Subject } from "./subject.ts";

const LABELS = ["queue", "op", "worker", "result"];

type Labels = Record<string, string | number>;
type Series = [labels: Labels, value: number][];

export class Metrics {
  private readonly registry = new Registry();
  private readonly labelNames: string[];

  /** Of all these devices of the process. `program`: its name. `look`: somebody looks. */
  constructor(
    private readonly program: string,
    private readonly subjects: readonly Subject[],
    private readonly memory: ResidentMemory,
    private readonly look: () => void,
  ) {
    this.labelNames = [...LABELS, ...namesIn(subjects.map(({ labels }) => labels))];
    this.addDevice();
    this.addQueues();
    this.addWorkers();
    this.addProcess();
  }

  async answer(): Promise<Answer> {
    this.look();
    const body = await this.registry.metrics();
    return { status: 200, contentType: this.registry.contentType, body };
  }

  private addDevice(): void {
    this.gauge(
      "info",
      "What runs here, in its labels; always 1.",
      this.ofEach((subject) => [[infoOf(subject), 1]]),
      namesIn(this.subjects.flatMap((subject) => [infoOf(subject), subject.labels])),
    );
    // Two devices of a kind may have different ones, as disks on different storage have.
    const gauges = new Map(this.subjects.flatMap(gaugesOf).map((gauge) => [gauge.name, gauge.help]));
    for (const [name, help] of gauges)
      this.gauge(
        name,
        help,
        this.ofEach((subject) => valuesOf(subject, name)),
      );
    this.gauge(
      "front_end_connected",
      "Whether a front-end is connected.",
      this.ofEach(({ backend }) => [[{}, Number(backend.frontEnds.length > 0)]]),
    );
    if (this.subjects.some(({ standby }) => standby))
      this.gauge(
        "standby_ready",
        "Whether a standby would take over if this process died.",
        this.ofEach(({ standby }) => [[{}, Number(standby?.pid !== undefined)]]),
      );
    this.counter(
      "rings_broken_total",
      "Rings that their drivers broke.",
      this.ofEach(({ backend }) => [[{}, backend.activity.counts().brokenRings!]]),
    );
  }

  private addQueues(): void {
    this.counter(
      "requests_total",
      "Requests that ended well.",
      this.ofQueues(({ index, kinds }) =>
        kinds.map(({ kind, requests }): Series[number] => [{ queue: index, op: opOf(kind) }, requests]),
      ),
    );
    this.counter("bytes_total", "Bytes of data read and written.", this.ofQueues(bytesOf));
    this.counter(
      "failed_requests_total",
      "Requests that ended with an error status.",
      this.eachQueue(({ failures }) => failures),
    );
    this.counter(
      "kicks_total",
      "Kicks that came from the driver.",
      this.eachQueue(({ kicks }) => kicks),
    );
    this.counter(
      "calls_total",
      "Calls that went to the driver.",
      this.eachQueue(({ calls }) => calls),
    );
    this.counter(
      "limit_wait_seconds_total",
      "Time that the next request of a ring has waited for a limit.",
      this.eachQueue(({ waitedNs }) => waitedNs / 1e9),
    );
    this.gauge(
      "requests_in_flight",
      "Requests taken from the ring and not yet used.",
      this.eachQueue(({ inFlight }) => inFlight),
    );
    this.gauge(
      "ring_running",
      "Whether the ring is running; a broken one is not.",
      this.eachQueue(({ state }) => Number(state === "running")),
    );
    const durations = new DurationHistogram(
      this.fullName("request_duration_seconds"),
      "From when a request is taken from its ring to when it is used, of those that ended well while somebody looked.",
      () => this.subjects.map((subject) => ({ labels: subject.labels ?? {}, queues: queuesOf(subject) })),
    );
    this.registry.registerMetric(durations as unknown as Metric);
  }

  private addWorkers(): void {
    const ofWorkers = (series: (worker: WorkerStatistics) => Series) =>
      this.ofEach(({ backend }) => backend.activity.workers().flatMap(series));
    this.counter(
      "worker_turns_total",
      "Turns of a worker's loop.",
      ofWorkers(({ index, turns }) => [[{ worker: index }, turns]]),
    );
    this.counter(
      "worker_sleeps_total",
      "How often a worker went to sleep.",
      ofWorkers(({ index, sleeps }) => [[{ worker: index }, sleeps]]),
    );
    this.counter(
      "worker_polls_total",
      "How often a worker looked for more before a sleep.",
      ofWorkers(({ index, pollsPaid, pollsInVain }) => [
        [{ worker: index, result: "paid" }, pollsPaid],
        [{ worker: index, result: "in_vain" }, pollsInVain],
      ]),
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

  /** Of each device, with its labels. */
  private ofEach(series: (subject: Subject) => Series): () => Series {
    return () =>
      this.subjects.flatMap((subject) =>
        series(subject).map(([labels, value]): Series[number] => [{ ...labels, ...subject.labels }, value]),
      );
  }

  private ofQueues(series: (queue: QueueActivity) => Series): () => Series {
    return this.ofEach((subject) => queuesOf(subject).flatMap(series));
  }

  private eachQueue(value: (queue: QueueActivity) => number): () => Series {
    return this.ofQueues((queue) => [[{ queue: queue.index }, value(queue)]]);
  }

  private counter(name: string, help: string, collect: () => Series): void {
    const counter = new Counter({
      name: this.fullName(name),
      help,
      labelNames: this.labelNames,
      registers: [this.registry],
      collect: () => {
        counter.reset();
        for (const [labels, value] of collect()) counter.inc(labels, value);
      },
    });
  }

  private gauge(name: string, help: string, collect: () => Series, labelNames = this.labelNames): void {
    const gauge = new Gauge({
      name: this.fullName(name),
      help,
      labelNames,
      registers: [this.registry],
      collect: () => {
        gauge.reset();
        for (const [labels, value] of collect()) gauge.set(labels, value);
      },
    });
  }

  /** Below the program's name, except for what all programs have. */
  private fullName(name: string): string {
    return name.startsWith("process_") ? name : `${this.program.replaceAll("-", "_")}_${name}`;
  }
}

function infoOf({ backend }: Subject): Record<string, string> {
  const { device, workers } = backend;
  return { version: manifest.version, type: device.type, engine: workers.engine, ...device.facts?.labels };
}

function gaugesOf({ backend }: Subject): readonly DeviceGauge[] {
  return backend.device.facts?.gauges ?? [];
}

function valuesOf(subject: Subject, gauge: string): Series {
  return gaugesOf(subject).flatMap(({ name, value }) => (name === gauge ? [[{}, value]] : []));
}

/** Each once. */
function namesIn(labels: readonly (Readonly<Record<string, string>> | undefined)[]): string[] {
  return [...new Set(labels.flatMap((each) => Object.keys(each ?? {})))];
}

/** Those that are there for a guest, or were. */
function queuesOf({ backend }: Subject): QueueActivity[] {
  return backend.activity.queues().filter(({ state, kinds, failures, kicks, calls }) => {
    const counts = [...kinds.map(({ requests }) => requests), failures, kicks, calls];
    return state !== "stopped" || counts.some((count) => count > 0);
  });
}

/** By the kinds that move data; of a device that names none, by direction. */
function bytesOf({ index, kinds, bytesIn, bytesOut }: QueueActivity): Series {
  const moving = kinds.filter(({ kind }) => kind.data !== undefined);
  if (moving.length > 0) return moving.map(({ kind, bytes }) => [{ queue: index, op: opOf(kind) }, bytes]);
  return [
    [{ queue: index, op: "in" }, bytesIn],
    [{ queue: index, op: "out" }, bytesOut],
  ];
}
