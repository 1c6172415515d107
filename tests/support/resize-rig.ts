// A daemon whose disk changes its size, and a front-end that is told so.
import {
  SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import { type BlkDriver, encodeRanges } from "../../host/front-end/blk-driver.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { ChannelEnd } from "./backend-channel.ts";
import { Observed } from "./observed.ts";
import { until } from "./until.ts";
import type { VringdOptions } from "./vringd.ts";

/** MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE, CONFIGURE_MEM_SLOTS, STATUS. */
export const WITH_CHANNEL = [0, 3, 5, 9, 12, 13, 15, 16];

export interface Resized {
  status: number;
  /** What went wrong. */
  error?: string;
  sizeBytes?: number;
  formerSizeBytes?: number;
}

export class ResizeRig {
  readonly channel = new ChannelEnd();

  private constructor(
    readonly observed: Observed,
    readonly frontEnd: FrontEnd,
  ) {}

  static async start(options: VringdOptions = {}, how: FrontEndOptions = {}): Promise<ResizeRig> {
    const observed = await Observed.start(options);
    try {
      const choice = { protocolFeatures: WITH_CHANNEL, ...how };
      return new ResizeRig(observed, await FrontEnd.connect(observed.daemon.socketPath, choice));
    } catch (error) {
      await observed[Symbol.asyncDispose]();
      throw error;
    }
  }

  async giveChannel(): Promise<void> {
    const refused = await this.frontEnd.setBackendReqFd(this.channel.theirs);
    if (refused !== 0n) throw new Error(`SET_BACKEND_REQ_FD: ${refused}`);
  }

  resize(...args: readonly string[]): Promise<Resized> {
    return resize(this.observed, ...args);
  }

  /** Waits until the front-end is told, once, and takes over the capacity as QEMU does. */
  async hearCapacity(): Promise<number> {
    await until(() => this.channel.changes() > 0, "the front-end is told of a change");
    await this.frontEnd.readConfig();
    return this.frontEnd.capacity;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.frontEnd.close();
    this.channel.close();
    await this.observed[Symbol.asyncDispose]();
  }
}

export function resize(observed: Observed, ...args: readonly string[]): Promise<Resized> {
  return observed.command("resize", ...args);
}

/** The status of a read, a write, a discard and a write-zeroes of these sectors. */
export async function statusesAt(disk: BlkDriver, sector: number, sectors: number): Promise<number[]> {
  const byteLength = sectors * SECTOR_SIZE;
  const out = encodeRanges([{ sector, sectors }]);
  const results = [
    await disk.request({ type: VIRTIO_BLK_T_IN, sector, inLength: byteLength }),
    await disk.request({ type: VIRTIO_BLK_T_OUT, sector, out: Buffer.alloc(byteLength, 7) }),
    await disk.request({ type: VIRTIO_BLK_T_DISCARD, out }),
    await disk.request({ type: VIRTIO_BLK_T_WRITE_ZEROES, out }),
  ];
  return results.map(({ status }) => status);
}
