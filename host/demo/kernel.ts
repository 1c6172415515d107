// What takes the core's submission entries, in the kernel's place. Eventfds it serves at once; operations on the disk wait
// for someone to say how they end.

import { WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { REQUEST_STRIDE, WORKER_REQUESTS, WORKER_RINGS, WORKER_SQES } from "../../assembly/abi/worker.ts";
import {
  CQE_RES,
  CQE_SIZE,
  CQE_USER_DATA,
  ECANCELED,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOVEC_BASE,
  IOVEC_LEN,
  IOVEC_SIZE,
  SQE_ADDR,
  SQE_LEN,
  SQE_OFF,
  SQE_OPCODE,
  SQE_SIZE,
  SQE_USER_DATA,
} from "../../assembly/spec/io-uring.ts";
import type { Disk } from "./disk.ts";
import { gpaOfHost, MEMORY_HOST, ptrOfGpa } from "./memory-map.ts";
import { RING_ENTRIES } from "./traced-core.ts";

export const SQ_HEAD = WORKERS_PTR + WORKER_RINGS;
export const SQ_TAIL = SQ_HEAD + 64;
export const SQ_FLAGS = SQ_HEAD + 96;
export const CQ_HEAD = SQ_HEAD + 128;
export const CQ_TAIL = SQ_HEAD + 192;
export const CQES = SQ_HEAD + 4096;
export const SQES = WORKERS_PTR + WORKER_SQES;

/** The high half of user_data (assembly/io/uring.ts). */
const TAG_REQUEST = 0;
const TAG_KICK = 1;
const TAG_CALL = 2;

const EIO = 5;

/** An operation on the disk that the core has asked for. */
export interface Operation {
  slot: number;
  /** What the driver calls the request's chain: its head, or its buffer id. */
  token: number;
  opcode: number;
  name: string;
  offset: number;
  byteLength: number;
  buffers: { gpa: number; byteLength: number }[];
}

export type Ending = "done" | "short" | "failed";

export const NAMES = new Map([
  [IORING_OP_READ, "READ"],
  [IORING_OP_READV, "READV"],
  [IORING_OP_WRITE, "WRITE"],
  [IORING_OP_WRITEV, "WRITEV"],
  [IORING_OP_FSYNC, "FSYNC"],
  [IORING_OP_FALLOCATE, "FALLOCATE"],
]);

export class Kernel {
  readonly operations: Operation[] = [];
  isKickArmed = false;
  /** The eventfds: they are the front-end's, so that a crash leaves them. */
  kicks = 0;
  calls = 0;

  constructor(
    private readonly view: DataView,
    private readonly disk: Disk,
  ) {}

  /** The process that had asked is gone. What it had asked for may be done or not; here it is not. */
  forget(): Operation[] {
    this.isKickArmed = false;
    return this.operations.splice(0);
  }

  kick(): void {
    this.kicks++;
    this.deliverKick();
  }

  get hasCompletions(): boolean {
    return this.view.getUint32(CQ_HEAD, true) !== this.view.getUint32(CQ_TAIL, true);
  }

  /** io_uring_enter(2): takes all entries. Returns the operations among them, and how often the driver was called. */
  enter(): { operations: Operation[]; calls: number } {
    const taken: Operation[] = [];
    const callsBefore = this.calls;
    const tail = this.view.getUint32(SQ_TAIL, true);
    for (let head = this.view.getUint32(SQ_HEAD, true); head !== tail; head++) {
      const operation = this.take(SQES + (head % RING_ENTRIES) * SQE_SIZE);
      if (operation !== undefined) taken.push(operation);
    }
    this.view.setUint32(SQ_HEAD, tail, true);
    this.operations.push(...taken);
    return { operations: taken, calls: this.calls - callsBefore };
  }

  /** Ends an operation, and tells the core. Returns what the kernel says: a number of bytes, 0, or a negative errno. */
  complete(operation: Operation, ending: Ending): number {
    this.operations.splice(this.operations.indexOf(operation), 1);
    const result = this.resultOf(operation, ending);
    this.post(TAG_REQUEST, operation.slot, result);
    return result;
  }

  canBeShort({ opcode }: Operation): boolean {
    return opcode !== IORING_OP_FSYNC && opcode !== IORING_OP_FALLOCATE;
  }

  private resultOf(operation: Operation, ending: Ending): number {
    const { opcode, offset, byteLength } = operation;
    if (ending === "failed") return -EIO;
    if (opcode === IORING_OP_FSYNC) this.disk.flush();
    if (opcode === IORING_OP_FALLOCATE) this.disk.clear(offset, byteLength);
    if (!this.canBeShort(operation)) return 0;
    const moved = ending === "short" ? byteLength / 2 : byteLength;
    this.move(operation, moved);
    return moved;
  }

  private move({ opcode, offset, buffers }: Operation, byteLength: number): void {
    let at = 0;
    for (const { gpa, byteLength: length } of buffers) {
      const part = Math.min(length, byteLength - at);
      const bytes = new Uint8Array(this.view.buffer, ptrOfGpa(gpa), part);
      if (opcode === IORING_OP_READ || opcode === IORING_OP_READV) this.disk.read(offset + at, bytes);
      else this.disk.write(offset + at, bytes);
      at += part;
    }
  }

  private take(sqe: number): Operation | undefined {
    const index = this.view.getUint32(sqe + SQE_USER_DATA, true);
    const tag = this.view.getUint32(sqe + SQE_USER_DATA + 4, true);
    const opcode = this.view.getUint8(sqe + SQE_OPCODE);
    if (opcode === IORING_OP_ASYNC_CANCEL) this.cancel(this.view.getUint32(sqe + SQE_ADDR + 4, true));
    else if (tag === TAG_REQUEST) return this.readOperation(sqe, index, opcode);
    else if (tag === TAG_KICK) this.armKick();
    else if (tag === TAG_CALL) this.call();
    return undefined;
  }

  private armKick(): void {
    this.isKickArmed = true;
    this.deliverKick();
  }

  private deliverKick(): void {
    if (!this.isKickArmed || this.kicks === 0) return;
    this.isKickArmed = false;
    this.kicks = 0;
    this.post(TAG_KICK, 0, 8);
  }

  private call(): void {
    this.calls++;
    this.post(TAG_CALL, 0, 8);
  }

  private cancel(tag: number): void {
    if (tag !== TAG_KICK || !this.isKickArmed) return;
    this.isKickArmed = false;
    this.post(TAG_KICK, 0, -ECANCELED);
  }

  private post(tag: number, index: number, result: number): void {
    const tail = this.view.getUint32(CQ_TAIL, true);
    const cqe = CQES + (tail % RING_ENTRIES) * CQE_SIZE;
    this.view.setUint32(cqe + CQE_USER_DATA, index, true);
    this.view.setUint32(cqe + CQE_USER_DATA + 4, tag, true);
    this.view.setInt32(cqe + CQE_RES, result, true);
    this.view.setUint32(CQ_TAIL, tail + 1, true);
  }

  private readOperation(sqe: number, slot: number, opcode: number): Operation {
    const buffers = this.buffersOf(sqe, opcode);
    const byteLength = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
    return {
      slot,
      // The first word of a request is its chain's id (assembly/virtqueue/state.ts, Chain): a look into the core, for the eye.
      token: this.view.getUint32(WORKERS_PTR + WORKER_REQUESTS + slot * REQUEST_STRIDE, true),
      opcode,
      name: NAMES.get(opcode) ?? `opcode ${opcode}`,
      offset: this.readU64(sqe + SQE_OFF),
      byteLength: opcode === IORING_OP_FALLOCATE ? this.readU64(sqe + SQE_ADDR) : byteLength,
      buffers,
    };
  }

  private buffersOf(sqe: number, opcode: number): Operation["buffers"] {
    const address = this.readU64(sqe + SQE_ADDR);
    const length = this.view.getUint32(sqe + SQE_LEN, true);
    if (opcode === IORING_OP_READ || opcode === IORING_OP_WRITE) {
      return [{ gpa: gpaOfHost(address), byteLength: length }];
    }
    if (opcode !== IORING_OP_READV && opcode !== IORING_OP_WRITEV) return [];
    return Array.from({ length }, (_, i) => {
      const vector = address - MEMORY_HOST + i * IOVEC_SIZE;
      const gpa = gpaOfHost(this.readU64(vector + IOVEC_BASE));
      return { gpa, byteLength: this.readU64(vector + IOVEC_LEN) };
    });
  }

  private readU64(ptr: number): number {
    return Number(this.view.getBigUint64(ptr, true));
  }
}
