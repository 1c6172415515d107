// One daemon for long: front-ends come and go, each with a queue under a load that is checked and beside it hostile ones.
import assert from "node:assert/strict";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import type { RegionLayout } from "../../host/front-end/memory.ts";
import { CrashLoad } from "./crash-load.ts";
import { HostileLoad } from "./hostile-load.ts";
import type { KillTotals } from "./kill-run.ts";
import { ProcessSamples } from "./process-samples.ts";
import type { Random } from "./random.ts";
import { SectorModel } from "./sector-model.ts";
import { until } from "./until.ts";
import { Vringd } from "./vringd.ts";

export interface SteadyOptions {
  engine: "io_uring" | "threads";
  threads: number;
  /** Queues whose driver is hostile, beside the good one. */
  hostileQueues: number;
  /** Of so many front-ends one sees the daemon killed; 0: none does. */
  killsEvery: number;
}

export interface SteadyTotals {
  frontEnds: number;
  attacks: number;
  broken: number;
}

const IMAGE_SIZE = 16 << 20;
const SESSION_MS_MAX = 1500;
const SAMPLE_EVERY_MS = 1000;
const LOST_AFTER_MS = 10_000;
const GIVE_BACK_MS = 20_000;

/** Where nothing that is read from the disk points to by chance, taken for a descriptor. */
const MEMORY: readonly RegionLayout[] = [
  { gpa: 0x7_3000_0000, byteLength: 64 << 20, userAddress: 0x7f5a_c000_0000 },
];

export class SteadyRun {
  readonly totals: SteadyTotals = { frontEnds: 0, attacks: 0, broken: 0 };
  readonly samples: ProcessSamples;
  /** The first half of the disk; the other is for the hostile. */
  private readonly model = new SectorModel(IMAGE_SIZE / 512 / 2);
  private idleFds = 0;

  private constructor(
    readonly daemon: Vringd,
    private readonly options: SteadyOptions,
    private readonly random: Random,
    private readonly killTotals: KillTotals,
  ) {
    this.samples = new ProcessSamples(daemon);
  }

  static async start(options: SteadyOptions, random: Random, killTotals: KillTotals): Promise<SteadyRun> {
    const args = ["--packed", `--engine=${options.engine}`, `--threads=${options.threads}`];
    const daemon = await Vringd.start({ byteLength: IMAGE_SIZE, args });
    return new SteadyRun(daemon, options, random, killTotals);
  }

  /** Serves one front-end at least, and ends with an image that is what the model says. */
  async run(isOver: () => boolean): Promise<void> {
    const sampling = setInterval(() => this.samples.take(false), SAMPLE_EVERY_MS);
    try {
      this.idleFds = this.fdCount;
      do await this.serveFrontEnd();
      while (!isOver());
      assert.equal(await this.daemon.stop(), 0);
    } finally {
      clearInterval(sampling);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
  }

  private get fdCount(): number {
    return this.daemon.procEntries("fd").length;
  }

  private async serveFrontEnd(): Promise<void> {
    const { random, daemon, options, model } = this;
    const queues = 1 + options.hostileQueues;
    const format = { packed: random.below(2) === 0, eventIdx: random.below(2) === 0 };
    const setup = { ...format, memory: MEMORY, queues, queueSize: 64, inflight: true };
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, setup);
    const load = new CrashLoad(frontEnd.memory, frontEnd.queues[0]!, model, {
      random,
      depth: random.pick([1, 8, 32]),
      indirect: true,
    });
    try {
      load.resume();
      await this.attack(frontEnd, random.below(SESSION_MS_MAX));
      if (options.killsEvery > 0 && random.below(options.killsEvery) === 0) await this.kill(frontEnd);
      load.pause();
      await load.completedUpTo(load.submitted, LOST_AFTER_MS);
    } finally {
      await load.end();
      this.killTotals.completed += load.completed;
    }
    frontEnd.close();
    await this.settle();
    this.totals.frontEnds++;
  }

  private async attack(frontEnd: FrontEnd, timeMs: number): Promise<void> {
    const endMs = performance.now() + timeMs;
    const loads = frontEnd.queues.slice(1).map((_, i) => {
      return new HostileLoad(frontEnd, i + 1, this.model.sectors, this.random);
    });
    do for (const load of loads) await load.attack();
    while (performance.now() < endMs);
    for (const { attacks, breaks } of loads) {
      this.totals.attacks += attacks;
      this.totals.broken += breaks;
    }
  }

  /** A ring that nobody could serve is not served by the successor either, and harms as little. */
  private async kill(frontEnd: FrontEnd): Promise<void> {
    await this.daemon.kill9();
    this.killTotals.kills++;
    await Promise.all([this.daemon.restart(), frontEnd.reconnect(this.daemon.socketPath)]);
    this.samples.beginNext();
  }

  /** Nothing of a front-end is left: its descriptors, its memory. */
  private async settle(): Promise<void> {
    const isLeft = () => this.fdCount > this.idleFds || this.daemon.isMapped();
    await until(() => !isLeft(), "all of it is given back", GIVE_BACK_MS);
    this.model.checkImage(this.daemon.imagePath);
    this.samples.take(true);
    // A line for every broken ring.
    this.daemon.log.splice(0);
  }
}
