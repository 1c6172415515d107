// The core as a device for the model: in this process, with a disk in memory and a kernel that does as it is told.
import assert from "node:assert/strict";
import {
  DEVICE_CAPACITY_SECTORS,
  DEVICE_DISCARD_UNMAPS,
  DEVICE_ID,
  DEVICE_MAX_RANGES,
  DEVICE_READ_ONLY,
  DEVICE_TURN_REQUESTS,
  DEVICE_WRITE_THROUGH,
} from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";
import {
  EAGAIN,
  EOPNOTSUPP,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
} from "../../assembly/spec/io-uring.ts";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { SplitRing } from "../../host/driver/split.ts";
import { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { drainEventfd } from "../../host/linux/eventfd.ts";
import { BlockModel } from "./block-model.ts";
import {
  CoreHarness,
  DATA_GPA,
  DATA_PTR,
  DATA_SIZE,
  GUEST_PTR,
  GUEST_WINDOW_SIZE,
  type Operation,
  SHARED_PTR,
} from "./core-harness.ts";
import { ModelClock, ModelLog } from "./model-live.ts";
import { gpaOf, ModelMemory, ptrOf } from "./model-memory.ts";
import { type LiveDevice, type Refusal, SLOT_SIZE } from "./model-run.ts";
import { CAPACITY, type Fate, type Limit, type Setup } from "./model-script.ts";

const EIO = 5;
const VECTORED = [IORING_OP_READV, IORING_OP_WRITEV];
const RANGES_MAX = 2;
/** Few, so that one request's turn meets another's. */
const TURN_REQUESTS = 4;
const ID = "a model";
const SLOTS = 16;
/** No limit of the scripts' holds a request for longer. */
const WAIT_NS = 50e6;
const WAITS_MAX = 100;

/** Made once; a new CoreDevice is a new process on new memory. */
export function createCore(module: WebAssembly.Module): CoreHarness {
  return new CoreHarness(module, { beforeStore: checkStore });
}

function checkStore(ptr: number): void {
  if (!isShared(ptr) && !isGuestMemory(ptr)) throw new Error(`a wild store to 0x${ptr.toString(16)}`);
}

function isShared(ptr: number): boolean {
  return ptr >= SHARED_PTR && ptr < GUEST_PTR;
}

function isGuestMemory(ptr: number): boolean {
  const isRings = ptr >= GUEST_PTR && ptr < GUEST_PTR + GUEST_WINDOW_SIZE;
  return isRings || (ptr >= DATA_PTR && ptr < DATA_PTR + DATA_SIZE);
}

export class CoreDevice implements LiveDevice {
  readonly queue: Virtqueue;
  readonly model: BlockModel;
  readonly slots = Array.from({ length: SLOTS }, (_, i) => DATA_GPA + i * SLOT_SIZE);
  private readonly disk = Buffer.alloc(CAPACITY * SECTOR_SIZE);
  private readonly memory: ModelMemory;
  private readonly clock: ModelClock;
  private readonly log: ModelLog;
  private isCalled = false;

  constructor(
    private readonly core: CoreHarness,
    private readonly setup: Setup,
  ) {
    const { size, eventIdx, packed, readOnly } = setup;
    core.bytes.fill(0, SHARED_PTR, GUEST_PTR + GUEST_WINDOW_SIZE);
    for (let i = 0; i < this.disk.length; i++) this.disk[i] = i % 251;
    this.model = new BlockModel(Buffer.from(this.disk), {
      capacity: CAPACITY,
      readOnly,
      rangesMax: RANGES_MAX,
      id: ID,
    });
    this.describeDisk();
    this.memory = new ModelMemory(core.bytes);
    this.queue = new Virtqueue(this.memory, { packed, size, eventIdx });
    this.clock = new ModelClock(core);
    this.log = new ModelLog(core);
    core.hooks.beforeStore = (ptr) => {
      checkStore(ptr);
      if (isGuestMemory(ptr)) this.log.wrote(gpaOf(ptr), 1);
    };
    core.boot();
    this.log.setOn(false);
    this.start(this.queue.ring.initialBase);
  }

  get nowNs(): number {
    return this.clock.nowNs;
  }

  limit(limit: Limit): void {
    this.clock.limit(limit);
    this.turn();
  }

  pass(ns: number): void {
    this.clock.pass(ns);
    this.turn();
  }

  setMoved(isMoved: boolean): void {
    this.log.setOn(isMoved);
  }

  takeLog(): void {
    this.log.take();
  }

  bytes(gpa: number, byteLength: number): Uint8Array {
    return this.memory.bytes(gpa, byteLength);
  }

  turn(): void {
    const call = () => {
      this.isCalled = true;
    };
    this.core.turn({ takeKick: () => drainEventfd(this.queue.kickFd), call }, () => {});
    this.log.check();
  }

  takeCall(): boolean {
    const { isCalled } = this;
    this.isCalled = false;
    return isCalled;
  }

  complete(which: number, fate: Fate): Refusal | undefined {
    const { operations } = this.core;
    if (operations.length === 0) return undefined;
    const at = which % operations.length;
    const operation = operations[at]!;
    const result = this.resultOf(operation, fate);
    this.core.complete(at, result);
    this.turn();
    const isError = result === -EIO;
    if (!isError && result !== -EOPNOTSUPP) return undefined;
    return { sector: Math.floor(operation.offset / SECTOR_SIZE), isError };
  }

  async restart(): Promise<void> {
    this.core.stop();
    this.turn();
    while (!this.core.isStopped) {
      assert.ok(this.core.operations.length > 0, "the ring never stops");
      this.complete(0, "done");
    }
    this.start(this.core.base);
  }

  async crash(done: number): Promise<void> {
    this.core.operations.forEach((operation, i) => {
      if ((done & (1 << i)) !== 0) this.perform(operation, this.totalOf(operation));
    });
    this.core.boot();
    this.log.restart();
    const { ring } = this.queue;
    this.start(ring instanceof SplitRing ? ring.usedIdx : ring.initialBase);
  }

  async wait(): Promise<void> {
    for (let waits = 0; this.core.operations.length === 0; waits++) {
      if (this.queue.hasUsed()) return;
      assert.ok(waits < WAITS_MAX, "a request was lost");
      this.pass(WAIT_NS);
    }
    this.complete(0, "done");
  }

  image(): Buffer {
    return this.disk;
  }

  close(): void {
    this.queue.close();
  }

  private describeDisk(): void {
    const { view, bytes } = this.core;
    view.setBigUint64(DEVICE_PTR + DEVICE_CAPACITY_SECTORS, BigInt(CAPACITY), true);
    view.setUint32(DEVICE_PTR + DEVICE_MAX_RANGES, RANGES_MAX, true);
    view.setUint32(DEVICE_PTR + DEVICE_TURN_REQUESTS, TURN_REQUESTS, true);
    view.setUint32(DEVICE_PTR + DEVICE_DISCARD_UNMAPS, 1, true);
    view.setUint32(DEVICE_PTR + DEVICE_READ_ONLY, this.setup.readOnly ? 1 : 0, true);
    view.setUint32(DEVICE_PTR + DEVICE_WRITE_THROUGH, this.setup.writeThrough ? 1 : 0, true);
    bytes.set(Buffer.from(ID), DEVICE_PTR + DEVICE_ID);
  }

  private start(base: number): void {
    const { size, packed: isPacked, eventIdx: hasEventIdx } = this.setup;
    const { descriptor, available, used } = this.queue.ring.addresses;
    const pointers = { descPtr: ptrOf(descriptor), driverPtr: ptrOf(available), devicePtr: ptrOf(used) };
    this.core.track(size);
    this.core.start({ ...pointers, shape: { size, isPacked, hasEventIdx } }, base);
    this.turn();
  }

  private resultOf(operation: Operation, fate: Fate): number {
    const { opcode } = operation;
    const total = this.totalOf(operation);
    if (fate === "again") return -EAGAIN;
    if (fate === "error" && opcode !== IORING_OP_FSYNC) return -EIO;
    if (fate === "unsupported" && opcode === IORING_OP_FALLOCATE) return -EOPNOTSUPP;
    if (fate === "short" && isTransfer(operation) && total > 1) return this.perform(operation, total >> 1);
    return this.perform(operation, total);
  }

  private totalOf(operation: Operation): number {
    if (!isTransfer(operation)) return 0;
    return this.core.buffersOf(operation, VECTORED).reduce((sum, [, length]) => sum + length, 0);
  }

  /** Returns what the kernel would. */
  private perform(operation: Operation, byteLength: number): number {
    const { opcode, offset, address } = operation;
    if (opcode === IORING_OP_FSYNC) return 0;
    if (opcode === IORING_OP_FALLOCATE) {
      this.disk.fill(0, offset, offset + address);
      return 0;
    }
    let at = 0;
    for (const [gpa, length] of this.core.buffersOf(operation, VECTORED)) {
      const part = Math.min(length, byteLength - at);
      this.move(opcode, gpa, offset + at, part);
      at += part;
    }
    return at;
  }

  private move(opcode: number, gpa: number, offset: number, byteLength: number): void {
    const isInSlots = gpa >= DATA_GPA && gpa + byteLength <= DATA_GPA + DATA_SIZE;
    if (opcode === IORING_OP_READ || opcode === IORING_OP_READV) {
      assert.ok(isInSlots, "a read to somewhere else");
      this.bytes(gpa, byteLength).set(this.disk.subarray(offset, offset + byteLength));
      this.log.wrote(gpa, byteLength);
    } else if (isInSlots) {
      this.disk.set(this.bytes(gpa, byteLength), offset);
    } else {
      // The core's own zeroes.
      this.disk.fill(0, offset, offset + byteLength);
    }
  }
}

function isTransfer({ opcode }: Operation): boolean {
  return [IORING_OP_READ, IORING_OP_WRITE, ...VECTORED].includes(opcode);
}
