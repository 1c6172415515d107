// A daemon that is upgraded under a checked load: one process after the other serves the same front-end.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VIRTIO_F_RING_INDIRECT_DESC } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { askControl, ControlError } from "../../host/toolbox/control-client.ts";
import type { Upgraded } from "../../host/toolbox/ctl/upgrade.ts";
import { CrashLoad } from "./crash-load.ts";
import type { Random } from "./random.ts";
import { SectorModel } from "./sector-model.ts";
import { until } from "./until.ts";
import { Vringd, type VringdOptions } from "./vringd.ts";

const IMAGE_SIZE = 8 << 20;
const LOST_AFTER_MS = 20_000;
const ANSWER_MS = 120_000;
const ATTEMPTS = 10;

export interface UpgradedOptions extends VringdOptions {
  packed?: boolean;
  queues?: number;
  depth?: number;
  inflight?: boolean;
  /** Of the front-end, beside these. */
  frontEnd?: FrontEndOptions;
  /** Where the image lies if the daemon's arguments name another than its own; false: it is no file. */
  image?: string | false;
  /** What the disk holds, where it is no file. */
  readDisk?(): Promise<Buffer>;
  /** As in CrashLoadOptions. */
  noDiscards?: boolean;
}

/** Every daemon that was started by another. They are nobody's children by the time that they are to end. */
const started = new Set<number>();
process.on("exit", () => {
  for (const pid of started) end(pid, "SIGKILL");
});

export class UpgradedDaemon {
  /** Of the process that serves. */
  pid: number;
  private constructor(
    readonly daemon: Vringd,
    readonly controlSocket: string,
    private readonly directory?: string,
  ) {
    this.pid = daemon.pid;
  }

  static async start({ args = [], ...options }: VringdOptions): Promise<UpgradedDaemon> {
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    const controlSocket = join(directory, "vm.control");
    try {
      const given = ["--packed", `--control-socket=${controlSocket}`, ...args];
      const daemon = await Vringd.start({ byteLength: IMAGE_SIZE, ...options, args: given });
      return new UpgradedDaemon(daemon, controlSocket, directory);
    } catch (error) {
      rmSync(directory, { recursive: true });
      throw error;
    }
  }

  /** One that was started otherwise, and is its starter's to dispose of. */
  static of(daemon: Vringd, controlSocket: string): UpgradedDaemon {
    return new UpgradedDaemon(daemon, controlSocket);
  }

  /** Rejects with a ControlError that says why not. A machine that has other work may need several attempts. */
  async upgrade(binary?: string): Promise<Upgraded> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.ask<Upgraded>(
          "POST",
          "/v1/upgrade",
          binary === undefined ? {} : { binary },
        );
        this.adopt(answer.pid);
        return answer;
      } catch (error) {
        if (attempt === ATTEMPTS || !/has not taken over within|was not ready/.test((error as Error).message))
          throw error;
      }
    }
  }

  /** This one serves. */
  adopt(pid: number): void {
    if (pid !== this.daemon.pid) started.add(pid);
    this.pid = pid;
  }

  /** The reason why it was not. */
  async refusal(binary?: string): Promise<string> {
    const [answer] = await Promise.allSettled([this.upgrade(binary)]);
    assert.ok(answer?.status === "rejected" && answer.reason instanceof ControlError, "it was upgraded");
    return answer.reason.message;
  }

  ask<T>(method: string, path: string, body?: object): Promise<T> {
    return askControl<T>({ socketPath: this.controlSocket, timeoutMs: ANSWER_MS }, method, path, body);
  }

  get isAlive(): boolean {
    return isAlive(this.pid);
  }

  /** Ends whoever serves, as SIGTERM does. */
  async stop(): Promise<void> {
    if (this.pid === this.daemon.pid) assert.equal(await this.daemon.stop(), 0);
    end(this.pid, "SIGTERM");
    await until(() => !this.isAlive, "the successor ends");
    // Its log is complete when all that have it have ended.
    assert.equal(await this.daemon.end(), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.pid !== this.daemon.pid) end(this.pid, "SIGKILL");
    await this.daemon[Symbol.asyncDispose]();
    if (this.directory !== undefined) rmSync(this.directory, { recursive: true, force: true });
  }
}

export class UpgradeRun {
  private constructor(
    readonly upgraded: UpgradedDaemon,
    readonly frontEnd: FrontEnd,
    private readonly model: SectorModel,
    private readonly loads: CrashLoad[],
    private readonly image: string | false,
    private readonly readDisk?: () => Promise<Buffer>,
  ) {}

  static async start(options: UpgradedOptions, random: Random): Promise<UpgradeRun> {
    const {
      packed = false,
      queues = 1,
      depth = 16,
      inflight = true,
      frontEnd: more,
      image,
      readDisk,
      noDiscards = false,
      ...daemonOptions
    } = options;
    const upgraded = await UpgradedDaemon.start(daemonOptions);
    try {
      const { socketPath, imagePath } = upgraded.daemon;
      const frontEnd = await FrontEnd.connect(socketPath, { packed, queues, inflight, ...more });
      const model = new SectorModel(frontEnd.capacity);
      const indirect = frontEnd.hasFeature(VIRTIO_F_RING_INDIRECT_DESC);
      const loads = frontEnd.queues.map(
        (queue) => new CrashLoad(frontEnd.memory, queue, model, { random, depth, indirect, noDiscards }),
      );
      return new UpgradeRun(upgraded, frontEnd, model, loads, image ?? imagePath, readDisk);
    } catch (error) {
      await upgraded[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The load goes on until all that it has submitted has completed, and the image holds what it must. */
  async under(action: () => Promise<void>): Promise<void> {
    try {
      for (const load of this.loads) load.resume();
      await this.progress();
      await action();
      await this.progress();
      for (const load of this.loads) load.pause();
      await Promise.all(this.loads.map((load) => load.completedUpTo(load.submitted, LOST_AFTER_MS)));
      if (this.readDisk) this.model.checkBytes(await this.readDisk());
      else if (this.image !== false) this.model.checkImage(this.image);
    } catch (error) {
      const { message } = error as Error;
      throw new Error(`${message}\nThe daemons' log:\n${this.upgraded.daemon.log.join("\n")}`, {
        cause: error,
      });
    }
  }

  /** Every queue has completed requests that were not there before. */
  async progress(): Promise<void> {
    const before = this.loads.map(({ submitted }) => submitted);
    await Promise.all(this.loads.map((load, i) => load.completedUpTo(before[i]! + 1, LOST_AFTER_MS)));
    await until(() => this.loads.every(({ completed }, i) => completed > before[i]!), "requests complete");
  }

  /** What the front-end does after a crash. */
  async reconnect(): Promise<void> {
    await this.frontEnd.reconnect(this.upgraded.daemon.socketPath);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const load of this.loads) await load.end();
    this.frontEnd.close();
    await this.upgraded[Symbol.asyncDispose]();
  }
}

/** Not one that has ended, and waits for its parent to hear of it. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

function end(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}
