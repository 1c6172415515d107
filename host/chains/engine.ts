// The engine for a device that is an object: hands it the chains that the core has taken, and completes them as the device says.
import { CHAIN_F_FAIL, OP_CHAIN } from "../../assembly/abi/chain.ts";
import {
  QUEUE_F_CHAINS,
  QUEUE_F_CREDIT,
  QUEUE_F_RECOVER_FAIL,
  QUEUE_F_RECOVER_FORGET,
} from "../../assembly/abi/queue.ts";
import { IOVEC_BASE, IOVEC_LEN, IOVEC_SIZE } from "../../assembly/spec/io-uring.ts";
import type { Core } from "../core/core.ts";
import type { Recovery, VirtioDevice } from "../devices/device.ts";
import { inTime } from "../devices/patience.ts";
import type { EngineWorker } from "../engines/engine.ts";
import { SoftwareEngine } from "../engines/software.ts";
import { MemoryViews } from "../memory/memory-views.ts";
import type { Log } from "../process/log.ts";
import type { HeldChain } from "./chain.ts";
import { ChainQueue } from "./queue.ts";

const RECOVERY_FLAGS: Readonly<Record<Recovery, number>> = {
  repeat: 0,
  fail: QUEUE_F_RECOVER_FAIL,
  forget: QUEUE_F_RECOVER_FORGET,
};

export class ChainsEngine extends SoftwareEngine {
  readonly name = "chains";
  private readonly views: MemoryViews;
  private readonly hostAddress: number;
  private core: Core | undefined;
  /** Of running rings, by index. */
  private readonly queues = new Map<number, ChainQueue>();
  /** Chains that the device holds, by user_data. */
  private readonly held = new Map<bigint, HeldChain>();

  constructor(
    { memory, memoryHostAddress, workerPtr }: EngineWorker,
    private readonly device: VirtioDevice,
    private readonly log: Log,
  ) {
    super(memory, workerPtr);
    this.hostAddress = memoryHostAddress;
    this.views = new MemoryViews(this.view, memoryHostAddress);
  }

  override attach(core: Core): void {
    this.core = core;
    super.attach(core);
  }

  forgetMemory(): void {
    this.views.forget();
  }

  queueFlags(queue: number): number {
    return QUEUE_F_CHAINS | QUEUE_F_CREDIT | RECOVERY_FLAGS[this.device.queues[queue]!.recover];
  }

  queueStarted(index: number, size: number): void {
    const core = this.core!;
    const wakeAfter = (change: (index: number, count: number) => void) => (count: number) => {
      change(index, count);
      this.wake();
    };
    const credit = { set: wakeAfter(core.setCredit), add: wakeAfter(core.addCredit) };
    const queue = new ChainQueue(index, size, this.device.queues[index]!, credit, this.log);
    this.queues.set(index, queue);
    this.device.start(queue);
  }

  async queueStopping(index: number): Promise<void> {
    const queue = this.queues.get(index);
    if (queue === undefined) return;
    queue.stop();
    try {
      await inTime(this.device.stop?.(queue));
    } catch (error) {
      this.log.error(
        { queue: this.device.queues[index]!.name, err: error },
        "the device could not stop a queue",
      );
    }
    queue.awaitRest();
    this.queues.delete(index);
  }

  /** By the event loop: a device that answers at once would otherwise keep all else in this thread waiting. */
  protected override resume(goOn: () => void): void {
    setImmediate(goOn);
  }

  protected perform(sqe: number): boolean {
    const { opcode, fd, address, length, offset, opFlags, userData } = this.operationAt(sqe);
    if (opcode !== OP_CHAIN) return false;
    const queue = this.queues.get(fd)!;
    const buffers = this.buffersOf(address, length, Number(offset));
    const held = queue.arrive(buffers, opFlags & CHAIN_F_FAIL ? "fail" : "serve", (result) => {
      this.held.delete(userData);
      this.complete(userData, result);
    });
    if (held.isHeld) this.held.set(userData, held);
    return true;
  }

  protected override withdraw(userData: bigint): void {
    this.held.get(userData)?.withdraw();
  }

  /** As the core's table lists them: the readable ones first. */
  private buffersOf(address: bigint, count: number, readableCount: number) {
    const readable: Uint8Array[] = [];
    const writable: Uint8Array[] = [];
    const table = Number(address) - this.hostAddress;
    for (let i = 0; i < count; i++) {
      const vector = table + i * IOVEC_SIZE;
      const base = this.numberAt(vector + IOVEC_BASE);
      const byteLength = this.numberAt(vector + IOVEC_LEN);
      this.views.append(i < readableCount ? readable : writable, base, byteLength);
    }
    return { readable, writable };
  }

  /** Of 64 bits, below 2^53. */
  private numberAt(ptr: number): number {
    return this.view.getUint32(ptr, true) + this.view.getUint32(ptr + 4, true) * 2 ** 32;
  }
}
