// The engine for a disk that is an object: hands it what the core's SQEs ask for, with guest memory as buffers.
import {
  EAGAIN,
  ECANCELED,
  EINTR,
  EINVAL,
  EOPNOTSUPP,
  FALLOC_FL_NO_HIDE_STALE,
  FALLOC_FL_PUNCH_HOLE,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOVEC_BASE,
  IOVEC_LEN,
  IOVEC_SIZE,
  RWF_DSYNC,
} from "../../assembly/spec/io-uring.ts";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { MemoryViews } from "../memory/memory-views.ts";
import type { BlockDisk } from "./block-disk.ts";
import type { ChangeGuard } from "./change-guard.ts";
import type { DiskOperation, OnDiskFailure } from "./disk-failure.ts";
import type { EngineWorker } from "./engine.ts";
import { resultOfError } from "./errno.ts";
import { type Operation, SoftwareEngine } from "./software.ts";

const NAMES = new Map<number, DiskOperation>([
  [IORING_OP_READ, "read"],
  [IORING_OP_READV, "read"],
  [IORING_OP_WRITE, "write"],
  [IORING_OP_WRITEV, "write"],
  [IORING_OP_FSYNC, "flush"],
]);

/** Stands for the object where an SQE has a descriptor: no descriptor is negative, and -1 is none. */
export const OBJECT_FD = -2;

export class ObjectEngine extends SoftwareEngine {
  readonly name = "disk";
  private readonly views: MemoryViews;
  private readonly hostAddress: number;
  private readonly blockMask: number;

  /** `blockSize`: the disk's, in bytes. */
  constructor(
    { memory, memoryHostAddress, workerPtr }: EngineWorker,
    private readonly disk: BlockDisk,
    blockSize: number,
    private readonly onFailure: OnDiskFailure,
    private readonly guard: ChangeGuard,
  ) {
    super(memory, workerPtr);
    this.hostAddress = memoryHostAddress;
    this.views = new MemoryViews(this.view, memoryHostAddress);
    this.blockMask = blockSize - 1;
  }

  forgetMemory(): void {
    this.views.forget();
  }

  /** By the event loop: a disk that answers at once would otherwise keep all else in this thread waiting. */
  protected override resume(goOn: () => void): void {
    setImmediate(goOn);
  }

  protected perform(sqe: number): boolean {
    const operation = this.operationAt(sqe);
    if (operation.fd !== OBJECT_FD) return false;
    const { userData } = operation;
    let isDone = false;
    const finish = (result: number) => {
      // A thenable of its own making may settle more than once.
      if (!isDone) this.complete(userData, result);
      isDone = true;
    };
    this.start(operation).then(finish, (error) => {
      const result = resultOfError(error);
      // The core goes on by other means: it tries again, or writes zeroes.
      if (result === -EOPNOTSUPP && operation.opcode === IORING_OP_FALLOCATE) return finish(result);
      this.report(operation, result, error);
      finish([-EAGAIN, -EINTR, -ECANCELED].includes(result) ? EIO : result);
    });
    return true;
  }

  private report({ opcode, length, offset }: Operation, result: number, error: unknown): void {
    const operation = NAMES.get(opcode) ?? (length & FALLOC_FL_NO_HIDE_STALE ? "discard" : "writeZeroes");
    const sector = operation === "flush" ? undefined : Number(offset / BigInt(SECTOR_SIZE));
    this.onFailure({ operation, result, sector, count: 1, error });
  }

  /** Resolves with what a CQE would hold. */
  private async start({ opcode, offset, address, length, opFlags }: Operation): Promise<number> {
    const { disk } = this;
    switch (opcode) {
      case IORING_OP_READ:
      case IORING_OP_READV: {
        const { buffers, byteLength } = this.buffersOf(opcode === IORING_OP_READV, address, length);
        if ((byteLength & this.blockMask) !== 0) return -EINVAL;
        await disk.read(offset, buffers);
        return byteLength;
      }
      case IORING_OP_WRITE:
      case IORING_OP_WRITEV: {
        const { buffers, byteLength } = this.buffersOf(opcode === IORING_OP_WRITEV, address, length);
        if ((byteLength & this.blockMask) !== 0) return -EINVAL;
        if (this.guard.before !== undefined) await this.guard.before(offset, BigInt(byteLength));
        await disk.write!(offset, buffers);
        if (opFlags & RWF_DSYNC) await disk.flush?.();
        return byteLength;
      }
      case IORING_OP_FSYNC:
        await disk.flush?.();
        return 0;
      case IORING_OP_FALLOCATE:
        return this.allocate(length, offset, address);
      default:
        return -EINVAL;
    }
  }

  private async allocate(mode: number, offset: bigint, byteLength: bigint): Promise<number> {
    const { disk } = this;
    if ((byteLength & BigInt(this.blockMask)) !== 0n) return -EINVAL;
    if (this.guard.before !== undefined) await this.guard.before(offset, byteLength);
    if (mode & FALLOC_FL_NO_HIDE_STALE) {
      await disk.discard?.(offset, byteLength);
      return 0;
    }
    if (disk.writeZeroes === undefined) return -EOPNOTSUPP;
    await disk.writeZeroes(offset, byteLength, (mode & FALLOC_FL_PUNCH_HOLE) !== 0);
    return 0;
  }

  /** A single buffer, or as many as a table of I/O vectors in linear memory lists. */
  private buffersOf(isVectored: boolean, address: bigint, length: number) {
    const buffers: Uint8Array[] = [];
    if (!isVectored) {
      this.views.append(buffers, Number(address), length);
      return { buffers, byteLength: length };
    }
    const table = Number(address) - this.hostAddress;
    let byteLength = 0;
    for (let vector = table; vector < table + length * IOVEC_SIZE; vector += IOVEC_SIZE) {
      const base = Number(this.view.getBigUint64(vector + IOVEC_BASE, true));
      const bytes = Number(this.view.getBigUint64(vector + IOVEC_LEN, true));
      this.views.append(buffers, base, bytes);
      byteLength += bytes;
    }
    return { buffers, byteLength };
  }
}

/** In place of errors that mean something else to the core: "try again" or "was taken back". */
const EIO = -5;
