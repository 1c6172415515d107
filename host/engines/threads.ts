// The fallback engine: has libuv's thread pool do what the core's SQEs ask of a file.
import {
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
} from "../../assembly/spec/io-uring.ts";
import { EINVAL } from "../linux/errno.ts";
import * as fileIo from "../linux/file-io.ts";
import { isInMemory } from "../linux/file-system.ts";
import * as immediateIo from "../linux/immediate-io.ts";
import { isDirect } from "../linux/status-flags.ts";
import { type Operation, SoftwareEngine } from "./software.ts";

/** No errno is as large. */
const NOT_NOW = -0x10000;

/** What of a file's I/O needs no thread of the pool: all, reads of what the page cache has, or none. */
type Haste = "all" | "cached" | "none";

export class ThreadsEngine extends SoftwareEngine {
  readonly name = "threads";
  private readonly images: ReadonlyMap<number, Haste>;

  /** `imageFds`: files proper; other descriptors are eventfds, which are waited for. */
  constructor(memory: WebAssembly.Memory, workerPtr: number, imageFds: readonly number[]) {
    super(memory, workerPtr);
    this.images = new Map(imageFds.map((fd) => [fd, hasteOf(fd)]));
  }

  protected perform(sqe: number): boolean {
    const operation = this.operationAt(sqe);
    const haste = this.images.get(operation.fd);
    if (haste === undefined) return false;
    const { userData } = operation;
    const result = performNow(operation, haste);
    if (result !== NOT_NOW) this.complete(userData, result);
    else start(operation).then((later) => this.complete(userData, later));
    return true;
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
