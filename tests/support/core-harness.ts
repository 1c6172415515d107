// One instance of the core over memory of its own, and a scripted engine that serves it: no daemon, no kernel.

import {
  DEVICE_BLOCK_SECTORS,
  DEVICE_CAPACITY_SECTORS,
  DEVICE_FILE_FD,
  DEVICE_FLUSHED,
  DEVICE_MAX_DISCARD_SECTORS,
  DEVICE_MAX_RANGES,
  DEVICE_MAX_WRITE_ZEROES_SECTORS,
  DEVICE_MEMORY_HOST_ADDRESS,
  DEVICE_TURN_REQUESTS,
} from "../../assembly/abi/device-block.ts";
import { ENTRY_GPA, ENTRY_LENGTH, ENTRY_TARGET, TABLE_ENTRY_SIZE } from "../../assembly/abi/guest-memory.ts";
import { DEVICE_PTR, REGION_TABLE_PTR, WASM_PAGE_SIZE, WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { QUEUE_F_EVENT_IDX, QUEUE_F_PACKED, QUEUE_STRIDE } from "../../assembly/abi/queue.ts";
import { STEP_BROKEN, STEP_WAIT } from "../../assembly/abi/step.ts";
import {
  LEFTOVERS_STRIDE,
  REQUEST_STRIDE,
  WORKER_LEFTOVERS,
  WORKER_QUEUES,
  WORKER_REQUESTS,
  WORKER_RINGS,
  WORKER_SCRATCH,
  WORKER_SQES,
  WORKER_WINDOW_TABLE,
} from "../../assembly/abi/worker.ts";
import {
  CQE_RES,
  CQE_SIZE,
  CQE_USER_DATA,
  ECANCELED,
  IORING_OP_ASYNC_CANCEL,
  SQE_ADDR,
  SQE_FD,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_SIZE,
  SQE_USER_DATA,
} from "../../assembly/spec/io-uring.ts";
import type { Core } from "../../host/core/core.ts";
import { STATE_PREFIX } from "../../host/demo/instrumented-core.ts";
import type { RingShape } from "./scripted-driver.ts";
import { CAPACITY_SECTORS } from "./scripted-requests.ts";

/** Guest address, pointer and host address have nothing in common, so that mixing them up cannot work. */
export const GUEST_GPA = 0x1_4000_0000;
export const DATA_GPA = 0x2_4000_0000;
const GUEST_HOST = 0x7f12_0000_0000;
const DATA_HOST = 0x7f34_0000_0000;
const MEMORY_HOST = 0x7f56_0000_0000;

/** What a crash leaves: the inflight region with a guard on either side, then guest memory. All else is the worker's. */
export const SHARED_PTR = 0x100000;
export const REGION_PTR = SHARED_PTR + 0x40;
export const GUEST_PTR = SHARED_PTR + 0x200;
export const GUEST_WINDOW_SIZE = WASM_PAGE_SIZE;
/** Only the kernel touches data, unless someone makes the core take it for something else. */
export const DATA_PTR = 0x200000;
export const DATA_SIZE = 0x100000;

const PRIVATE_START = WORKERS_PTR;
const PRIVATE_LENGTH = WORKER_LEFTOVERS + LEFTOVERS_STRIDE;

const SQ_HEAD = WORKERS_PTR + WORKER_RINGS;
const SQ_TAIL = SQ_HEAD + 64;
const SQ_FLAGS = SQ_HEAD + 96;
const CQ_HEAD = SQ_HEAD + 128;
const CQ_TAIL = SQ_HEAD + 192;
const CQES = SQ_HEAD + 4096;
const SQES = WORKERS_PTR + WORKER_SQES;
const RING_ENTRIES = 64;

const FILE_FD = 3;
const KICK_FD = 4;
const CALL_FD = 5;
const CONTROL_FD = 6;

const REQUESTS = 16;
/** Few, so that one request's turn meets another's. */
const TURN_REQUESTS = 4;

/** Loads and stores in one call of the core: far more than any honest one takes. */
const FUEL = 1_000_000;

/** The high half of user_data. */
const TAG_REQUEST = 0;
const TAG_KICK = 1;
const TAG_CALL = 2;

/** A submission entry of a request. */
export interface Operation {
  index: number;
  opcode: number;
  fd: number;
  offset: number;
  address: number;
  length: number;
  opFlags: number;
}

export interface Notifications {
  takeKick(): boolean;
  call(): void;
}

/** The exports as they are, without the compiler's wrappers: booleans are numbers. */
type CoreExports = Omit<Core, "isStopped"> & {
  isStopped(index: number): number;
  fuel: WebAssembly.Global;
  privateStart: WebAssembly.Global;
  privateLength: WebAssembly.Global;
};

export class QueueBroken extends Error {
  constructor(readonly fault: number) {
    super(`the ring broke: fault ${fault}`);
  }
}

export class CoreHarness {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** Operations that the engine has and hasn't completed. */
  readonly operations: Operation[] = [];
  private readonly core: CoreExports;
  private readonly atBirth: Snapshot;
  private isKickArmed = false;
  private isAsleep = false;

  /** `enter`: of a traced core. */
  constructor(
    module: WebAssembly.Module,
    /** Each is asked anew at each store. */
    readonly hooks: { beforeStore(address: number): void; enter?(id: number): void },
  ) {
    const memory = new WebAssembly.Memory({ initial: (PRIVATE_START + PRIVATE_LENGTH) / WASM_PAGE_SIZE });
    this.view = new DataView(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    const beforeStore = (address: number) => hooks.beforeStore(address);
    const hook = { beforeStore, outOfFuel, enter: hooks.enter ?? (() => {}) };
    this.core = new WebAssembly.Instance(module, { env: { memory }, hook }).exports as unknown as CoreExports;
    this.core.privateStart.value = PRIVATE_START;
    this.core.privateLength.value = PRIVATE_LENGTH;
    this.writeDevice();
    this.writeTables();
    this.core.fuel.value = FUEL;
    this.core.attachRings(
      SQ_HEAD,
      SQ_TAIL,
      SQ_FLAGS,
      SQES,
      RING_ENTRIES,
      CQ_HEAD,
      CQ_TAIL,
      CQES,
      RING_ENTRIES,
    );
    this.core.openWorker(0, 1, REQUESTS, CONTROL_FD);
    this.atBirth = this.takeSnapshot();
  }

  /** A new process, which knows nothing of the one before but what lies in shared memory. */
  boot(): void {
    this.operations.length = 0;
    this.isKickArmed = false;
    this.isAsleep = false;
    this.restore(this.atBirth);
  }

  track(entries: number): void {
    this.core.trackInflight(0, entries === 0 ? 0 : REGION_PTR, entries);
  }

  start(
    ring: { descPtr: number; driverPtr: number; devicePtr: number; shape: RingShape },
    base: number,
    /** QUEUE_F_*, beside those of the ring's shape. */
    otherFlags = 0,
  ): void {
    const { descPtr, driverPtr, devicePtr, shape } = ring;
    const format = (shape.isPacked ? QUEUE_F_PACKED : 0) | (shape.hasEventIdx ? QUEUE_F_EVENT_IDX : 0);
    const flags = format | otherFlags;
    this.isAsleep = false;
    this.core.fuel.value = FUEL;
    this.core.placeRing(0, gpaOfPtr(descPtr), gpaOfPtr(devicePtr));
    this.core.startQueue(0, shape.size, flags, descPtr, driverPtr, devicePtr, base, KICK_FD, CALL_FD);
  }

  /** Asks the queue to stop; it has when isStopped. */
  stop(): void {
    this.isAsleep = false;
    this.core.stopQueue(0);
  }

  suspend(): void {
    this.isAsleep = false;
    this.core.suspendQueue(0);
  }

  /** Something that it sleeps for may have changed. */
  wake(): void {
    this.isAsleep = false;
  }

  setLogging(isOn: boolean): void {
    this.core.setLogging(isOn);
  }

  setCredit(count: number): void {
    this.isAsleep = false;
    this.core.setCredit(0, count);
  }

  addCredit(count: number): void {
    this.isAsleep = false;
    this.core.addCredit(0, count);
  }

  get isStopped(): boolean {
    return this.core.isStopped(0) !== 0;
  }

  get base(): number {
    return this.core.queueBase(0) >>> 0;
  }

  get fault(): number {
    return this.core.queueFault(0);
  }

  /** Steps until the core sleeps, if anything wakes it. New operations go to `onOperation`; throws QueueBroken. */
  turn(notifications: Notifications, onOperation: (operation: Operation) => void): void {
    for (let steps = 0; ; steps++) {
      if (steps === 100) throw new Error("the core never waits");
      this.deliverKick(notifications);
      if (this.isAsleep && !this.hasCompletions) return;
      this.core.fuel.value = FUEL;
      const outcome = this.core.step();
      this.submit(notifications, onOperation);
      if ((outcome & STEP_BROKEN) !== 0) throw new QueueBroken(this.fault);
      this.isAsleep = (outcome & STEP_WAIT) !== 0;
    }
  }

  /** Completes the operation at `at` of the list. The core sees it at the next turn. */
  complete(at: number, result: number): Operation {
    const operation = this.operations[at]!;
    this.operations.splice(at, 1);
    this.postCompletion(TAG_REQUEST, operation.index, result);
    return operation;
  }

  /** Guest addresses of the buffers that an operation moves. */
  buffersOf(
    { address, length, opcode }: Operation,
    vectorOpcodes: readonly number[],
  ): [gpa: number, length: number][] {
    if (!vectorOpcodes.includes(opcode)) return [[gpaOfHost(address), length]];
    return Array.from({ length }, (_, i) => {
      const vector = address - MEMORY_HOST + i * 16;
      return [gpaOfHost(this.readU64(vector)), this.readU64(vector + 8)];
    });
  }

  private deliverKick(notifications: Notifications): void {
    if (!this.isKickArmed || !notifications.takeKick()) return;
    this.isKickArmed = false;
    this.postCompletion(TAG_KICK, 0, 8);
  }

  private get hasCompletions(): boolean {
    return this.view.getUint32(CQ_HEAD, true) !== this.view.getUint32(CQ_TAIL, true);
  }

  private submit(notifications: Notifications, onOperation: (operation: Operation) => void): void {
    const tail = this.view.getUint32(SQ_TAIL, true);
    for (let head = this.view.getUint32(SQ_HEAD, true); head !== tail; head++) {
      this.serve(SQES + (head % RING_ENTRIES) * SQE_SIZE, notifications, onOperation);
    }
    this.view.setUint32(SQ_HEAD, tail, true);
  }

  private serve(
    sqe: number,
    notifications: Notifications,
    onOperation: (operation: Operation) => void,
  ): void {
    const { view } = this;
    const index = view.getUint32(sqe + SQE_USER_DATA, true);
    const tag = view.getUint32(sqe + SQE_USER_DATA + 4, true);
    const opcode = view.getUint8(sqe + SQE_OPCODE);
    if (opcode === IORING_OP_ASYNC_CANCEL) {
      this.cancel(this.view.getUint32(sqe + SQE_ADDR, true), this.view.getUint32(sqe + SQE_ADDR + 4, true));
    } else if (tag === TAG_KICK) {
      this.isKickArmed = true;
    } else if (tag === TAG_CALL) {
      notifications.call();
      this.postCompletion(TAG_CALL, 0, 8);
    } else if (tag === TAG_REQUEST) {
      const operation = {
        index,
        opcode,
        fd: view.getInt32(sqe + SQE_FD, true),
        offset: this.readU64(sqe + SQE_OFF),
        address: this.readU64(sqe + SQE_ADDR),
        length: view.getUint32(sqe + SQE_LEN, true),
        opFlags: view.getUint32(sqe + SQE_OP_FLAGS, true),
      };
      this.operations.push(operation);
      onOperation(operation);
    }
  }

  /** Takes back a read of an eventfd, and operations that haven't begun: here every second one. */
  private cancel(index: number, tag: number): void {
    if (tag === TAG_KICK) {
      this.isKickArmed = false;
      this.postCompletion(TAG_KICK, 0, -ECANCELED);
    }
    if (tag !== TAG_REQUEST || index % 2 === 1) return;
    const at = this.operations.findIndex((operation) => operation.index === index);
    if (at >= 0) this.complete(at, -ECANCELED);
  }

  private postCompletion(tag: number, index: number, result: number): void {
    const tail = this.view.getUint32(CQ_TAIL, true);
    const cqe = CQES + (tail % RING_ENTRIES) * CQE_SIZE;
    this.view.setUint32(cqe + CQE_USER_DATA, index, true);
    this.view.setUint32(cqe + CQE_USER_DATA + 4, tag, true);
    this.view.setInt32(cqe + CQE_RES, result, true);
    this.view.setUint32(CQ_TAIL, tail + 1, true);
  }

  private readU64(ptr: number): number {
    return this.view.getUint32(ptr, true) + this.view.getUint32(ptr + 4, true) * 0x1_0000_0000;
  }

  private takeSnapshot(): Snapshot {
    const globals = Object.entries(this.core).filter(([name]) => name.startsWith(STATE_PREFIX));
    if (globals.length === 0) throw new Error("the core's globals are not exported");
    return {
      globals: (globals as [string, WebAssembly.Global][]).map(([, global]) => [global, global.value]),
      parts: PRIVATE_STATE.map(([start, byteLength]) => [start, this.bytes.slice(start, start + byteLength)]),
    };
  }

  private restore({ globals, parts }: Snapshot): void {
    for (const [global, value] of globals) global.value = value;
    for (const [start, bytes] of parts) this.bytes.set(bytes, start);
  }

  private writeDevice(): void {
    const { view } = this;
    view.setBigUint64(DEVICE_PTR + DEVICE_CAPACITY_SECTORS, BigInt(CAPACITY_SECTORS), true);
    view.setBigUint64(DEVICE_PTR + DEVICE_MEMORY_HOST_ADDRESS, BigInt(MEMORY_HOST), true);
    view.setInt32(DEVICE_PTR + DEVICE_FILE_FD, FILE_FD, true);
    view.setUint32(DEVICE_PTR + DEVICE_BLOCK_SECTORS, 1, true);
    view.setUint32(DEVICE_PTR + DEVICE_MAX_DISCARD_SECTORS, 1 << 16, true);
    view.setUint32(DEVICE_PTR + DEVICE_MAX_WRITE_ZEROES_SECTORS, 1 << 16, true);
    view.setUint32(DEVICE_PTR + DEVICE_MAX_RANGES, 1, true);
    view.setUint32(DEVICE_PTR + DEVICE_TURN_REQUESTS, TURN_REQUESTS, true);
  }

  private writeTables(): void {
    const windows = WORKERS_PTR + WORKER_WINDOW_TABLE;
    this.writeEntry(REGION_TABLE_PTR, GUEST_GPA, GUEST_WINDOW_SIZE, GUEST_HOST);
    this.writeEntry(REGION_TABLE_PTR + TABLE_ENTRY_SIZE, DATA_GPA, DATA_SIZE, DATA_HOST);
    this.writeEntry(windows, GUEST_GPA, GUEST_WINDOW_SIZE, GUEST_PTR);
    this.writeEntry(windows + TABLE_ENTRY_SIZE, DATA_GPA, DATA_SIZE, DATA_PTR);
  }

  private writeEntry(ptr: number, gpa: number, byteLength: number, target: number): void {
    this.view.setBigUint64(ptr + ENTRY_GPA, BigInt(gpa), true);
    this.view.setBigUint64(ptr + ENTRY_LENGTH, BigInt(byteLength), true);
    this.view.setBigUint64(ptr + ENTRY_TARGET, BigInt(target), true);
  }
}

/** All that an instance and its worker know. Making another instance each time would do the same, and take far longer. */
interface Snapshot {
  globals: [global: WebAssembly.Global, value: number | bigint][];
  parts: [start: number, bytes: Uint8Array][];
}

function outOfFuel(): never {
  throw new Error(`the core didn't end within ${FUEL} accesses`);
}

/** What a process keeps in linear memory, as far as these tests reach. */
const PRIVATE_STATE: readonly [start: number, byteLength: number][] = [
  [DEVICE_PTR + DEVICE_FLUSHED, 4],
  [WORKERS_PTR + WORKER_QUEUES, QUEUE_STRIDE],
  [WORKERS_PTR + WORKER_SCRATCH, 128],
  [WORKERS_PTR + WORKER_RINGS, 256],
  [WORKERS_PTR + WORKER_REQUESTS, REQUESTS * REQUEST_STRIDE],
  [WORKERS_PTR + WORKER_LEFTOVERS, 64],
];

function gpaOfPtr(ptr: number): bigint {
  return BigInt(GUEST_GPA + (ptr - GUEST_PTR));
}

function gpaOfHost(address: number): number {
  if (address >= DATA_HOST && address < DATA_HOST + DATA_SIZE) return DATA_GPA + (address - DATA_HOST);
  return address >= GUEST_HOST ? GUEST_GPA + (address - GUEST_HOST) : -1;
}
