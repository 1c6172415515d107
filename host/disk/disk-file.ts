// An open file as storage for disks: whole transfers at byte positions, through Node's thread pool.
import { close, fdatasync, readv, writev } from "node:fs";
import { promisify } from "node:util";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../assembly/spec/io-uring.ts";
import { EOPNOTSUPP } from "../errno.ts";
import { allocate } from "../linux/file-io.ts";
import { SystemError } from "../linux/libc.ts";
import { lengthOf, slice } from "./buffers.ts";

/** What a disk keeps its bytes in. Positions and lengths in bytes, exact below 2^53. */
export interface Storage {
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

export class DiskFile implements Storage {
  /** The kernel tells of data that it could not write only once (fsync(2)). */
  private syncFailure: Error | undefined;

  /** Takes the descriptor. */
  constructor(readonly fd: number) {}

  async read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    const byteLength = lengthOf(buffers);
    for (let at = 0; at < byteLength; ) {
      const rest = at === 0 ? buffers : slice(buffers, at, byteLength);
      const { bytesRead = 0 } = await readVectors(this.fd, rest, position + at);
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
      const { bytesWritten = 0 } = await writeVectors(this.fd, rest, position + at);
      at += bytesWritten;
    }
  }

  async sync(): Promise<void> {
    try {
      await dataSync(this.fd);
    } catch (error) {
      this.syncFailure ??= error as Error;
    }
    // Also if another call was told of the failure while this one ran.
    if (this.syncFailure !== undefined) throw this.syncFailure;
  }

  async punch(position: number, byteLength: number): Promise<void> {
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const result = await allocate(this.fd, mode, BigInt(position), BigInt(byteLength));
    if (result === 0) return;
    if (result !== -EOPNOTSUPP) throw new SystemError("fallocate", -result);
    for (let at = 0; at < byteLength; at += ZEROES.length) {
      await this.write(position + at, [ZEROES.subarray(0, Math.min(ZEROES.length, byteLength - at))]);
    }
  }

  close(): Promise<void> {
    return closeFd(this.fd);
  }
}
