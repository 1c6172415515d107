// Two daemons with one image, as the source and the destination of a migration are, and the front-ends between which a guest moves.
import { closeSync, constants, openSync } from "node:fs";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import * as m from "../../host/protocol/messages.ts";
import { isImageHeld } from "../../host/storage/file/lock.ts";
import { MigrationLog, startLogging } from "./moved-memory.ts";
import { bringMemory, comeBeside, MOVING, startRings, stopRings } from "./moving-guest.ts";
import { Vringd, type VringdOptions } from "./vringd.ts";

export const MIGRATING: FrontEndOptions = {
  ...MOVING,
  protocolFeatures: [...MOVING.protocolFeatures!, m.VHOST_USER_PROTOCOL_F_LOG_SHMFD],
};

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

/** Whether some process has the lock of a writer. */
export function isLocked(path: string): boolean {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    return isImageHeld(fd, true);
  } finally {
    closeSync(fd);
  }
}
