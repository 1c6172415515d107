// A faulty disk, the daemon on it, and a front-end: taken apart in the one order that never waits for what is held.
import type { BlkDriver } from "../../host/front-end/blk-driver.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { FaultyDisk } from "./faulty-disk.ts";
import { Vringd } from "./vringd.ts";

export interface FaultRigOptions {
  engine: "io_uring" | "threads";
  args?: readonly string[];
  /** Instead of vringd-blk. */
  program?: readonly string[];
  frontEnd?: FrontEndOptions;
}

export class FaultRig {
  private constructor(
    readonly storage: FaultyDisk,
    readonly daemon: Vringd,
    readonly frontEnd: FrontEnd,
  ) {}

  static async start({ engine, args = [], program, frontEnd }: FaultRigOptions): Promise<FaultRig> {
    const storage = new FaultyDisk();
    try {
      const daemon = await Vringd.start({
        ...(program && { program }),
        args: [`--blk-file=${storage.path}`, `--engine=${engine}`, "--packed", ...args],
      });
      try {
        const rig = new FaultRig(storage, daemon, await FrontEnd.connect(daemon.socketPath, frontEnd));
        // The daemon's own look at the image is not the guest's doing.
        storage.operations.length = 0;
        return rig;
      } catch (error) {
        await daemon[Symbol.asyncDispose]();
        throw error;
      }
    } catch (error) {
      storage[Symbol.dispose]();
      throw error;
    }
  }

  get driver(): BlkDriver {
    return this.frontEnd.disk(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.storage.release();
    this.frontEnd.close();
    await this.daemon[Symbol.asyncDispose]();
    this.storage[Symbol.dispose]();
  }
}
