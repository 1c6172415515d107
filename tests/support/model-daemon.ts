// The daemon as a device for the model: over its socket, with a file for a disk. Operations end when the kernel says so.
import assert from "node:assert/strict";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { BlockModel } from "./block-model.ts";
import { type Device, type Refusal, SLOT_SIZE } from "./model-run.ts";
import { CAPACITY, type Setup } from "./model-script.ts";
import { Vringd } from "./vringd.ts";

const RANGES_MAX = 2;
const ID = "a model";
const SLOTS = 16;
const WAIT_MS = 10_000;

export function startModelDaemon(engine: string): Promise<Vringd> {
  const args = [`--engine=${engine}`, "--packed", `--range-segments=${RANGES_MAX}`, `--serial=${ID}`];
  return Vringd.start({ byteLength: CAPACITY * 512, args });
}

export class DaemonDevice implements Device {
  readonly model: BlockModel;
  readonly slots: readonly number[];

  private constructor(
    private readonly daemon: Vringd,
    private readonly frontEnd: FrontEnd,
    readonly queue: Virtqueue,
  ) {
    this.model = new BlockModel(this.image(), {
      capacity: CAPACITY,
      readOnly: false,
      rangesMax: RANGES_MAX,
      id: ID,
    });
    this.slots = Array.from({ length: SLOTS }, () => frontEnd.memory.allocate(SLOT_SIZE));
  }

  static async connect(daemon: Vringd, { packed, eventIdx, size }: Setup): Promise<DaemonDevice> {
    const frontEnd = await FrontEnd.connect(daemon.socketPath, { packed, eventIdx, queues: 0 });
    await frontEnd.trackInflight(1, size);
    return new DaemonDevice(daemon, frontEnd, await frontEnd.addQueue(size));
  }

  bytes(gpa: number, byteLength: number): Uint8Array {
    return this.frontEnd.memory.bytes(gpa, byteLength);
  }

  turn(): void {}

  complete(): Refusal | undefined {
    return undefined;
  }

  async restart(): Promise<void> {
    const base = await this.frontEnd.stopQueue(0);
    await this.frontEnd.startQueue(0, { base, kick: false });
  }

  async crash(): Promise<void> {
    await this.daemon.kill9();
    await this.daemon.restart();
    await this.frontEnd.reconnect(this.daemon.socketPath);
  }

  /** Throws if something was used and the driver wasn't called. */
  async wait(): Promise<void> {
    assert.ok(await this.queue.wait(WAIT_MS), "a request was lost");
  }

  /** A call may still be on its way: wait() looks for that. */
  takeCall(): boolean {
    return true;
  }

  image(): Buffer {
    return this.daemon.imageBytes(0, CAPACITY);
  }

  close(): void {
    this.frontEnd.close();
  }
}
