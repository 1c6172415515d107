// Kills the daemon under load, again and again, and looks each time whether anything was lost, repeated or misplaced.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_F_RING_INDIRECT_DESC } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { CrashLoad, LostRequest } from "./crash-load.ts";
import { DescriptorKeeper } from "./descriptor-keeper.ts";
import { countInflight } from "./inflight-entries.ts";
import { readOverlay } from "./overlay-contents.ts";
import type { Random } from "./random.ts";
import { SectorModel } from "./sector-model.ts";
import { StandingBy } from "./standing-by.ts";
import { until } from "./until.ts";
import { type Ending, Vringd } from "./vringd.ts";

export interface KillOptions {
  packed: boolean;
  eventIdx: boolean;
  engine: "io_uring" | "threads";
  queues: number;
  depth: number;
  indirect?: boolean;
  queueSize?: number;
  sectorsMax?: number;
  args?: readonly string[];
  onDisk?: boolean;
  /** As in VringdOptions. */
  program?: readonly string[];
  /** Where the image lies if the daemon's arguments name another than its own. */
  imagePath?: string;
  /** What the disk holds, where it is no file. */
  readDisk?(): Promise<Buffer>;
  /** As in CrashLoadOptions. */
  noDiscards?: true;
  /** How long a request may take, where others than the daemon have a part in it. */
  lostAfterMs?: number;
  /** As in VringdOptions. */
  env?: Readonly<Record<string, string>>;
  /** Nobody starts the daemon anew: it has a standby. */
  standby?: true;
  /** A service manager keeps its connections: the front-end never connects again. */
  kept?: true;
  /** What is killed in place of the daemon, and started anew. */
  victim?: { kill9(): Promise<void>; restart(): Promise<void> };
  /** Its changes go to an overlay. */
  overlay?: true;
}

export interface KillTotals {
  kills: number;
  /** Requests completed, and those that a kill interrupted: for the driver, and as recorded in the region. */
  completed: number;
  interrupted: number;
  recorded: number;
  lost: number;
  repeated: number;
  /** Runs that failed in another way: a status, a length, or what a sector holds. */
  wrong: number;
}

export const IMAGE_SIZE = 8 << 20;
const LOAD_MS_MAX = 30;
const BURST_US_MAX = 300;
const LOST_AFTER_MS = 10_000;

function spinUs(microseconds: number): void {
  for (const end = performance.now() + microseconds / 1000; performance.now() < end; );
}

export function noTotals(): KillTotals {
  return { kills: 0, completed: 0, interrupted: 0, recorded: 0, lost: 0, repeated: 0, wrong: 0 };
}

export function tellTotals(totals: KillTotals): string {
  const { kills, completed, interrupted, recorded, lost, repeated, wrong } = totals;
  return (
    `survived ${kills} kills, completed ${completed} requests; ${interrupted} were in flight at a kill, ` +
    `${recorded} of them begun; lost ${lost}, repeated ${repeated}, wrong ${wrong}`
  );
}

/** Whose processes are killed. */
interface Mortal extends AsyncDisposable {
  readonly log: readonly string[];
  kill9(): Promise<void>;
  /** Resolves when the next kill would have somebody take over. */
  standby?(): Promise<unknown>;
  /** Resolves with the exit status. */
  stop(): Promise<Ending>;
}

export class KillRun {
  private readonly loads: CrashLoad[];

  private constructor(
    readonly daemon: Vringd,
    private readonly mortal: Mortal,
    private readonly frontEnd: FrontEnd,
    private readonly model: SectorModel,
    private readonly options: KillOptions,
    private readonly random: Random,
    private readonly totals: KillTotals,
    private readonly keeper?: DescriptorKeeper,
  ) {
    this.loads = frontEnd.queues.map(
      (queue) =>
        new CrashLoad(frontEnd.memory, queue, model, {
          random,
          depth: options.depth,
          indirect: frontEnd.hasFeature(VIRTIO_F_RING_INDIRECT_DESC),
          noDiscards: options.noDiscards ?? false,
          ...(options.sectorsMax !== undefined && { sectorsMax: options.sectorsMax }),
        }),
    );
  }

  static async start(options: KillOptions, random: Random, totals = noTotals()): Promise<KillRun> {
    const { packed, eventIdx, engine, queues, indirect = true, queueSize = 128, args = [] } = options;
    const keeper = options.kept && new DescriptorKeeper();
    const daemon = await Vringd.start({
      byteLength: IMAGE_SIZE,
      onDisk: options.onDisk ?? false,
      ...(options.program && { program: options.program }),
      ...(options.env && { env: options.env }),
      args: ["--packed", `--engine=${engine}`, ...(options.standby ? ["--standby"] : []), ...args],
      ...(options.overlay && { overlay: true }),
      ...(keeper && { handedDown: () => keeper.handedDown() }),
    });
    const mortal: Mortal = options.standby ? new StandingBy(daemon) : daemon;
    try {
      const setup = { packed, eventIdx, indirect, queues, queueSize, inflight: true };
      const frontEnd = await FrontEnd.connect(keeper?.path ?? daemon.socketPath, setup);
      await mortal.standby?.();
      await keeper?.isSettled();
      const model = new SectorModel(frontEnd.capacity);
      return new KillRun(daemon, mortal, frontEnd, model, options, random, totals, keeper);
    } catch (error) {
      await mortal[Symbol.asyncDispose]();
      keeper?.close();
      throw error;
    }
  }

  /**
   * Loads all queues, kills at random instants so often, unless that takes too long, and ends with an image that is
   * what the model says.
   */
  async run(kills: number, timeMs = Number.POSITIVE_INFINITY): Promise<void> {
    const deadlineMs = performance.now() + timeMs;
    try {
      for (const load of this.loads) load.resume();
      for (let i = 0; i < kills && performance.now() < deadlineMs; i++) {
        await this.loadForAWhile();
        await this.kill();
        // A server that was killed may have been about to do again what it had done before.
        if (!this.options.victim) await this.checkDisk();
        await this.comeBack();
      }
      for (const load of this.loads) load.pause();
      await this.allCompleted();
      assert.equal(this.recorded, 0, "requests are recorded that have completed");
      // It answers on the connection that it was set up by.
      if (this.keeper) assert.equal(await this.frontEnd.getFeatures(), this.frontEnd.backendFeatures);
      assert.equal(await this.mortal.stop(), 0);
      await this.checkDisk();
    } catch (error) {
      this.blame(error as Error);
      const { message } = error as Error;
      throw new Error(`${message}\nThe daemon's log:\n${this.daemon.log.join("\n")}`, { cause: error });
    }
  }

  /**
   * Milliseconds from the kill of a daemon, with `depth` requests in flight on each queue or with none, to the first
   * completion by its successor.
   */
  async recoveryTime(isLoaded: boolean): Promise<number> {
    if (isLoaded) {
      this.burst();
      await until(() => this.recorded > 0 || this.inFlight === 0, "requests are taken");
    }
    const killedMs = performance.now();
    await this.kill();
    // In place of those that completed at the last moment, or as the first ones.
    this.burst();
    const first = new Promise<number>((resolve) => {
      for (const load of this.loads) load.onCompletion = () => resolve(performance.now());
    });
    await this.comeBack();
    await this.allCompleted();
    return (await first) - killedMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const load of this.loads) await load.end();
    this.frontEnd.close();
    await this.mortal[Symbol.asyncDispose]();
    this.keeper?.close();
    this.totals.completed += this.loads.reduce((sum, load) => sum + load.completed, 0);
  }

  private burst(): void {
    for (const load of this.loads) load.burst();
  }

  private get inFlight(): number {
    return this.loads.reduce((sum, load) => sum + load.inFlight, 0);
  }

  private get recorded(): number {
    const { bytes, description } = this.frontEnd.inflight!;
    return countInflight(bytes, description, this.options.packed);
  }

  /** Every other kill may come amid the recovery from the one before. */
  private async loadForAWhile(): Promise<void> {
    if (this.random.below(2) === 0) await this.allCompleted();
    await sleep(this.random.below(LOAD_MS_MAX + 1));
    this.throwFailure();
    // The daemon is done with a batch before this thread hears of it. So the kill follows one by microseconds.
    this.burst();
    spinUs(this.random.below(BURST_US_MAX + 1));
  }

  private async kill(): Promise<void> {
    const killed = (this.options.victim ?? this.mortal).kill9();
    this.totals.interrupted += this.inFlight;
    await killed;
    this.totals.kills++;
    this.totals.recorded += this.recorded;
  }

  /** What the dead daemon has left. */
  private async checkDisk(): Promise<void> {
    const { changesPath } = this.daemon;
    if (this.options.readDisk) return this.model.checkBytes(await this.options.readDisk());
    const imagePath = this.options.imagePath ?? this.daemon.imagePath;
    if (!this.options.overlay) return this.model.checkImage(imagePath);
    this.model.checkBytes(await readOverlay(changesPath, imagePath), "the overlay");
  }

  private async comeBack(): Promise<void> {
    if (this.options.victim) return this.options.victim.restart();
    if (this.keeper) return this.daemon.restart();
    // The next kill needs one.
    const restarted = this.mortal.standby?.() ?? this.daemon.restart();
    // A front-end doesn't wait for others as long as a daemon does.
    if (this.options.lostAfterMs !== undefined) await restarted;
    await Promise.all([restarted, this.frontEnd.reconnect(this.daemon.socketPath)]);
  }

  /** All that has been submitted until now. */
  private async allCompleted(): Promise<void> {
    await Promise.all(
      this.loads.map((load) => load.completedUpTo(load.submitted, this.options.lostAfterMs ?? LOST_AFTER_MS)),
    );
  }

  private throwFailure(): void {
    for (const { failure } of this.loads) if (failure) throw failure;
  }

  private blame(error: Error): void {
    if (error instanceof LostRequest) this.totals.lost++;
    else if (/not in flight/.test(error.message)) this.totals.repeated++;
    else this.totals.wrong++;
  }
}
