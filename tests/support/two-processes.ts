// Two daemons with one image, as the source and the destination of a migration are, and the front-ends between which a guest moves.
import assert from "node:assert/strict";
import { closeSync, constants, openSync } from "node:fs";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import * as m from "../../host/protocol/messages.ts";
import { isImageHeld } from "../../host/storage/file/lock.ts";
import { MixedLoad, type MixedLoadOptions } from "./mixed-load.ts";
import { MigrationLog, startLogging } from "./moved-memory.ts";
import { bringMemory, comeBeside, MOVING, startRings, stopRings } from "./moving-guest.ts";
import { tellSeed } from "./random.ts";
import { Vringd, type VringdOptions } from "./vringd.ts";

export const MIGRATING: FrontEndOptions = {
  ...MOVING,
  protocolFeatures: [...MOVING.protocolFeatures!, m.VHOST_USER_PROTOCOL_F_LOG_SHMFD],
};

/** Of the part of the disk that a load has. */
const SECTORS = 8192;

/** One page of a log for each 32 pages of a guest's, up to 64 GiB. */
const GUEST_END = 2 ** 36;

/** A daemon, its front-end, and another daemon whose front-end has come with the same guest. */
export class TwoProcesses {
  readonly log = new MigrationLog(GUEST_END);

  private constructor(
    readonly source: Vringd,
    readonly destination: Vringd,
    readonly sourceEnd: FrontEnd,
    readonly destinationEnd: FrontEnd,
  ) {}

  /** `args`: of both. */
  static async start(
    { args = [], ...options }: VringdOptions = {},
    frontEnd: FrontEndOptions = {},
    incomingArgs: readonly string[] = [],
  ): Promise<TwoProcesses> {
    const wanted = { ...MIGRATING, ...frontEnd };
    const source = await Vringd.start({ args, ...options });
    try {
      const sourceEnd = await FrontEnd.connect(source.socketPath, wanted);
      const destination = await Vringd.start({
        ...options,
        blkFile: options.blkFile ?? source.imagePath,
        args: [...args, "--incoming", ...incomingArgs],
      });
      try {
        const destinationEnd = await comeBeside(sourceEnd, destination.socketPath, wanted);
        await bringMemory(destinationEnd, sourceEnd);
        return new TwoProcesses(source, destination, sourceEnd, destinationEnd);
      } catch (error) {
        await destination[Symbol.asyncDispose]();
        throw error;
      }
    } catch (error) {
      await source[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** As QEMU stops at the source: what is written is logged, and the rings stop. Their bases. */
  async leave(from = this.sourceEnd): Promise<number[]> {
    await startLogging(from, this.log);
    return stopRings(from);
  }

  async move(from = this.sourceEnd, to = this.destinationEnd): Promise<void> {
    const bases = await this.leave(from);
    await startRings(to, bases);
    await from.setFeatures(from.features);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.destinationEnd.disconnect();
    this.sourceEnd.close();
    this.log.close();
    await this.destination[Symbol.asyncDispose]();
    await this.source[Symbol.asyncDispose]();
  }
}

type Move = () => Promise<void>;

/** Requests of all kinds go on, whose data are checked, while the guest moves again and again. */
export async function moveUnderLoad(
  t: TestContext,
  both: TwoProcesses,
  count = 2000,
  more: Partial<MixedLoadOptions> = {},
): Promise<void> {
  const random = tellSeed(t);
  const { sourceEnd, destinationEnd } = both;
  let isOver = false;
  const disk = sourceEnd.disk();
  disk.requestTimeoutMs = 60_000;
  const load = MixedLoad.run(disk, {
    random,
    count,
    depth: 16,
    firstSector: 0,
    sectors: SECTORS,
    indirect: true,
    ...more,
  }).finally(() => {
    isOver = true;
  });
  load.catch(() => {});
  const there: Move = () => both.move(sourceEnd, destinationEnd);
  const back: Move = () => both.move(destinationEnd, sourceEnd);
  let moves = 0;
  for (; !isOver || moves < 2; moves += 2) {
    await there();
    await sleep(5);
    await back();
    await sleep(5);
  }
  t.diagnostic(`${moves} moves`);
  const { model } = await load;
  await there();
  // What the destination sees is the image, as the last to have it has left it.
  for (let at = 0; at < SECTORS; at += 2048) {
    const bytes = await disk.read(at, 2048);
    assert.ok(bytes.equals(model.subarray(at * 512, (at + 2048) * 512)), `sector ${at} holds something else`);
  }
}

/** Whether some process has the lock of a writer. */
export function isLocked(path: string): boolean {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    return isImageHeld(fd, true);
  } finally {
    closeSync(fd);
  }
}
