// The fallback engine: takes SQEs from the core's memory, has libuv's thread pool do them, and puts CQEs there.
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
  SQE_ADDR,
  SQE_FD,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_SIZE,
  SQE_USER_DATA,
} from "../../assembly/spec/io-uring.ts";
import { REQUESTS_MAX, WORKER_RINGS, WORKER_SQES } from "../../assembly/spec/layout.ts";
import * as fileIo from "../linux/file-io.ts";
import { isInMemory } from "../linux/file-system.ts";
import * as immediateIo from "../linux/immediate-io.ts";
import { isWritable, whenReadable, whenWritable } from "../linux/readiness.ts";
import { isDirect } from "../linux/status-flags.ts";
import type { Core } from "./core.ts";
import { BRIEF_WAIT_US, type Engine, type Patience } from "./engine.ts";

/** The rings' words and completions, from WORKER_RINGS: laid out as we like, since no kernel reads them. */
const SQ_HEAD = 0;
const SQ_TAIL = 4;
const SQ_FLAGS = 8;
const CQ_HEAD = 12;
const CQ_TAIL = 16;
const CQES = 64;
const SQ_ENTRIES = REQUESTS_MAX;
const CQ_ENTRIES = REQUESTS_MAX * 2;

const EINVAL = 22;

/** No errno is as large. */
const NOT_NOW = -0x10000;

interface Operation {
  opcode: number;
  fd: number;
  offset: bigint;
  address: bigint;
  length: number;
  opFlags: number;
  userData: bigint;
}

/** What of a file's I/O needs no thread of the pool: all, reads of what the page cache has, or none. */
type Haste = "all" | "cached" | "none";

export class ThreadsEngine implements Engine {
  readonly name = "threads";
  /** Completions come by the event loop, which must have its turn. */
  readonly canPoll = false;
  readonly requestCount = REQUESTS_MAX;

  private readonly images: ReadonlyMap<number, Haste>;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly view: DataView;
  private readonly sqes: number;
  private readonly cqes: number;
  /** Reads and writes of eventfds that wait for their turn, by user_data. */
  private readonly waiting = new Map<bigint, { stop(): void }>();
  private wake: (() => void) | undefined;

  /** `imageFds`: files proper; other descriptors are eventfds, which are waited for. */
  constructor(
    memory: WebAssembly.Memory,
    private readonly workerPtr: number,
    imageFds: readonly number[],
  ) {
    this.images = new Map(imageFds.map((fd) => [fd, hasteOf(fd)]));
    const buffer = memory.buffer as unknown as SharedArrayBuffer;
    this.words = new Int32Array(buffer, workerPtr + WORKER_RINGS, 5);
    this.view = new DataView(buffer);
    this.sqes = workerPtr + WORKER_SQES;
    this.cqes = workerPtr + WORKER_RINGS + CQES;
  }

  attach(core: Core): void {
    const rings = this.workerPtr + WORKER_RINGS;
    core.attachRings(
      rings + SQ_HEAD,
      rings + SQ_TAIL,
      rings + SQ_FLAGS,
      this.sqes,
      SQ_ENTRIES,
      rings + CQ_HEAD,
      rings + CQ_TAIL,
      this.cqes,
      CQ_ENTRIES,
    );
  }

  enter(count: number, patience: Patience): Promise<void> {
    for (let i = 0; i < count; i++) this.submit(this.takeSqe());
    if (patience === "go-on" || this.hasCompletion()) return nextTurn();
    return new Promise((resolve) => {
      const timer =
        patience === "wait-briefly" ? setTimeout(() => this.wake?.(), BRIEF_WAIT_US / 1000) : null;
      this.wake = () => {
        this.wake = undefined;
        if (timer) clearTimeout(timer);
        resolve();
      };
    });
  }

  close(): void {
    for (const { stop } of this.waiting.values()) stop();
    this.waiting.clear();
  }

  private hasCompletion(): boolean {
    return Atomics.load(this.words, CQ_HEAD / 4) !== Atomics.load(this.words, CQ_TAIL / 4);
  }

  private takeSqe(): Operation {
    const head = Atomics.load(this.words, SQ_HEAD / 4);
    const sqe = this.sqes + ((head >>> 0) % SQ_ENTRIES) * SQE_SIZE;
    const { view } = this;
    const operation = {
      opcode: view.getUint8(sqe + SQE_OPCODE),
      fd: view.getInt32(sqe + SQE_FD, true),
      offset: view.getBigUint64(sqe + SQE_OFF, true),
      address: view.getBigUint64(sqe + SQE_ADDR, true),
      length: view.getUint32(sqe + SQE_LEN, true),
      opFlags: view.getUint32(sqe + SQE_OP_FLAGS, true),
      userData: view.getBigUint64(sqe + SQE_USER_DATA, true),
    };
    Atomics.store(this.words, SQ_HEAD / 4, head + 1);
    return operation;
  }

  private complete(userData: bigint, result: number): void {
    const tail = Atomics.load(this.words, CQ_TAIL / 4);
    const cqe = this.cqes + ((tail >>> 0) % CQ_ENTRIES) * CQE_SIZE;
    this.view.setBigUint64(cqe + CQE_USER_DATA, userData, true);
    this.view.setInt32(cqe + CQE_RES, result, true);
    Atomics.store(this.words, CQ_TAIL / 4, tail + 1);
    this.wake?.();
  }

  private submit(operation: Operation): void {
    const { opcode, userData } = operation;
    if (opcode === IORING_OP_ASYNC_CANCEL) {
      this.cancel(operation);
      return;
    }
    const haste = this.images.get(operation.fd);
    if (haste === undefined) {
      this.waitForEvent(operation);
      return;
    }
    const result = performNow(operation, haste);
    if (result !== NOT_NOW) this.complete(userData, result);
    else start(operation).then((later) => this.complete(userData, later));
  }

  private waitForEvent({ opcode, fd, address, length, userData }: Operation): void {
    const isRead = opcode === IORING_OP_READ;
    const perform = () => {
      this.waiting.get(userData)?.stop();
      this.waiting.delete(userData);
      const transfer = isRead ? immediateIo.readNow : immediateIo.writeNow;
      this.complete(userData, transfer(fd, Number(address), length));
    };
    // A call goes out at once if it can, as with io_uring: the next turn may cancel what still waits.
    if (!isRead && isWritable(fd)) {
      perform();
      return;
    }
    this.waiting.set(userData, isRead ? whenReadable(fd, perform) : whenWritable(fd, perform));
  }

  private cancel({ address, userData }: Operation): void {
    const target = this.waiting.get(address);
    if (target) {
      target.stop();
      this.waiting.delete(address);
      this.complete(address, -ECANCELED);
    }
    this.complete(userData, 0);
  }
}

/** Past the page cache a read waits for the device, also if it was asked not to (RWF_NOWAIT). */
function hasteOf(fd: number): Haste {
  if (isInMemory(fd)) return "all";
  return isDirect(fd) ? "none" : "cached";
}

/**
 * Does what needs no waiting in this thread: a thread of the pool costs 25 us and more. NOT_NOW if it may have to wait, or
 * went wrong in a way that waiting may mend.
 */
function performNow(operation: Operation, haste: Haste): number {
  const { opcode, fd, offset, address, length, opFlags } = operation;
  const isSingle = opcode === IORING_OP_READ || opcode === IORING_OP_WRITE;
  const isRead = opcode === IORING_OP_READ || opcode === IORING_OP_READV;
  const isWrite = opcode === IORING_OP_WRITE || opcode === IORING_OP_WRITEV;
  if (!(isRead && haste !== "none") && !(isWrite && haste === "all")) return NOT_NOW;
  const iovecs = isSingle ? immediateIo.iovecOf(Number(address), length) : Number(address);
  const count = isSingle ? 1 : length;
  if (isWrite) return immediateIo.writeHere(fd, iovecs, count, offset, opFlags);
  if (haste === "all") return immediateIo.readHere(fd, iovecs, count, offset);
  const result = immediateIo.readCached(fd, iovecs, count, offset);
  return result > 0 ? result : NOT_NOW;
}

function nextTurn(): Promise<void> {
  // Through the event loop, so that completions and commands get their turn.
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Resolves with what a CQE would hold: a count, or a negated errno. */
function start({ opcode, fd, offset, address, length, opFlags }: Operation): Promise<number> {
  switch (opcode) {
    case IORING_OP_READ:
      return fileIo.read(fd, Number(address), length, offset);
    case IORING_OP_WRITE:
      return fileIo.write(fd, Number(address), length, offset, opFlags);
    case IORING_OP_READV:
      return fileIo.readVectors(fd, Number(address), length, offset);
    case IORING_OP_WRITEV:
      return fileIo.writeVectors(fd, Number(address), length, offset, opFlags);
    case IORING_OP_FSYNC:
      return fileIo.dataSync(fd);
    case IORING_OP_FALLOCATE:
      return fileIo.allocate(fd, length, offset, address);
    default:
      return Promise.resolve(-EINVAL);
  }
}
