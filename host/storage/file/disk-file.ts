// An open file as a store of bytes for disks: whole transfers at byte positions, through Node's thread pool.
import { close, fdatasync, readv, writev } from "node:fs";
import { promisify } from "node:util";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../../assembly/spec/io-uring.ts";
import { EIO, ENOSYS, EOPNOTSUPP } from "../../linux/errno.ts";
import { allocate } from "../../linux/file-io.ts";
import { SystemError } from "../../linux/libc.ts";
import { lengthOf, slice } from "../buffers.ts";
import { untilNotInterrupted } from "../interrupted.ts";
import { SharedTask } from "../shared-task.ts";

/** What a disk keeps its bytes in. Positions and lengths in bytes, exact below 2^53. */
export interface ByteStore {
  /** Fills the buffers; past the end with zeroes. */
  read(position: number, buffers: readonly Uint8Array[]): Promise<void>;
  write(position: number, buffers: readonly Uint8Array[]): Promise<void>;
  /** What was written before this was called is stable when it resolves. Once it has failed it fails for ever. */
  sync(): Promise<void>;
  /** The range reads as zeroes from now on, and takes no space where that can be. */
  punch(position: number, byteLength: number): Promise<void>;
  close(): Promise<void>;
}

const ZEROES = new Uint8Array(1 << 20);

type Transfer = (
  fd: number,
  buffers: readonly Uint8Array[],
  position: number,
) => Promise<{ bytesRead?: number; bytesWritten?: number }>;
const readVectors = promisify(readv) as Transfer;
const writeVectors = promisify(writev) as Transfer;
const dataSync = promisify(fdatasync);
const closeFd = promisify(close);

export class DiskFile implements ByteStore {
  /** One at a time: of two at once only one would hear of pages that the kernel has lost. */
  private readonly syncing = new SharedTask(() => this.syncNow());
  /** Of the first fdatasync that failed: the kernel reports lost pages once, and then has forgotten them. */
  private syncFailure: unknown;

  /** Takes the descriptor. */
  constructor(readonly fd: number) {}

  async read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    const byteLength = lengthOf(buffers);
    for (let at = 0; at < byteLength; ) {
      const rest = at === 0 ? buffers : slice(buffers, at, byteLength);
      const { bytesRead = 0 } = await untilNotInterrupted(() => readVectors(this.fd, rest, position + at));
      if (bytesRead === 0) {
        for (const buffer of rest) buffer.fill(0);
        return;
      }
      at += bytesRead;
    }
  }

  async write(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    const byteLength = lengthOf(buffers);
    for (let at = 0; at < byteLength; ) {
      const rest = at === 0 ? buffers : slice(buffers, at, byteLength);
      const { bytesWritten = 0 } = await untilNotInterrupted(() =>
        writeVectors(this.fd, rest, position + at),
      );
      // Else a file system that takes nothing, and doesn't say why, would be asked for ever.
      if (bytesWritten === 0) throw new SystemError("writev", EIO);
      at += bytesWritten;
    }
  }

  sync(): Promise<void> {
    return this.syncing.run();
  }

  async punch(position: number, byteLength: number): Promise<void> {
    if (await this.allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, byteLength)) return;
    for (let at = 0; at < byteLength; at += ZEROES.length) {
      await this.write(position + at, [ZEROES.subarray(0, Math.min(ZEROES.length, byteLength - at))]);
    }
  }

  /** Takes the space now, so that a write there won't lack it. Where the file system can't, it may. */
  async reserve(position: number, byteLength: number): Promise<void> {
    await this.allocate(0, position, byteLength);
  }

  close(): Promise<void> {
    return closeFd(this.fd);
  }

  private async syncNow(): Promise<void> {
    if (this.syncFailure !== undefined) throw this.syncFailure;
    try {
      await untilNotInterrupted(() => dataSync(this.fd));
    } catch (error) {
      this.syncFailure = error;
      throw error;
    }
  }

  /** fallocate(2). False where the file system, or a sandbox, doesn't have it. */
  private allocate(mode: number, position: number, byteLength: number): Promise<boolean> {
    return untilNotInterrupted(async () => {
      const result = await allocate(this.fd, mode, BigInt(position), BigInt(byteLength));
      if (result === -EOPNOTSUPP || result === -ENOSYS) return false;
      if (result !== 0) throw new SystemError("fallocate", -result);
      return true;
    });
  }
}
