// The engine for an image in a Ceph cluster: SQEs become requests of librbd as they are, with the addresses that they have, and one
// eventfd tells of completions. What it must know of a request until then is in tables by the request's slot.
import { REQUESTS_MAX } from "../../assembly/abi/worker.ts";
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
  IOVEC_LEN,
  IOVEC_SIZE,
  SQE_ADDR,
  SQE_FD,
  SQE_LEN,
  SQE_OFF,
  SQE_OPCODE,
  SQE_USER_DATA,
} from "../../assembly/spec/io-uring.ts";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { EIO, ESHUTDOWN } from "../linux/errno.ts";
import { createEventfd, drainEventfd } from "../linux/eventfd.ts";
import { close } from "../linux/libc.ts";
import { RbdAio } from "../linux/rbd-aio.ts";
import { whenReadable } from "../linux/readiness.ts";
import type { DiskOperation, OnDiskFailure } from "./disk-failure.ts";
import type { EngineWorker } from "./engine.ts";
import { SoftwareEngine } from "./software.ts";

type Image = ConstructorParameters<typeof RbdAio>[0];

/** Stands for the image where an SQE has a descriptor: no descriptor is negative, and -1 is none. */
export const RBD_FD = -3;

/** What whoever has opened the image sees of its requests. */
export interface RbdTraffic {
  /** Under way in the cluster. */
  inFlight: number;
  /** Grows with each that has completed. */
  completed: number;
  /** The cluster takes nothing from us any more: all that comes fails at once. */
  isFenced: boolean;
}

/** In the tables: none of these is 0. */
const READ = 1;
const WRITE = 2;
const FLUSH = 3;
const DISCARD = 4;
const WRITE_ZEROES = 5;
const NAMES: readonly DiskOperation[] = ["read", "read", "write", "flush", "discard", "writeZeroes"];

/** What the core takes for "try again", or for "was taken back". */
const MISLEADING = [-EAGAIN, -EINTR, -ECANCELED];
const WORD = 2 ** 32;

export class RbdEngine extends SoftwareEngine {
  readonly name = "rbd";
  private readonly aio: RbdAio;
  private readonly eventfd = createEventfd();
  private readonly completions: { stop(): void };
  private readonly hostAddress: number;
  private readonly tell = (request: number, result: number) => this.ended(request, result);
  private readonly kinds = new Uint8Array(REQUESTS_MAX);
  /** Bytes that it moves. */
  private readonly lengths = new Uint32Array(REQUESTS_MAX);
  private readonly sectors = new Float64Array(REQUESTS_MAX);
  private readonly tags = new Uint32Array(REQUESTS_MAX);

  /** Once for an image. `fenced` is called where the cluster takes nothing from us, and sees to it that the traffic says so. */
  constructor(
    { memory, memoryHostAddress, workerPtr }: EngineWorker,
    image: Image,
    private readonly traffic: RbdTraffic,
    private readonly onFailure: OnDiskFailure,
    private readonly fenced: () => void,
  ) {
    super(memory, workerPtr);
    this.hostAddress = memoryHostAddress;
    this.aio = new RbdAio(image, this.eventfd);
    this.completions = whenReadable(this.eventfd, () => this.reap());
  }

  override close(): void {
    super.close();
    this.completions.stop();
    close(this.eventfd);
  }

  protected perform(sqe: number): boolean {
    const { view, traffic } = this;
    if (view.getInt32(sqe + SQE_FD, true) !== RBD_FD) return false;
    // A request's slot: it has one operation at a time.
    const slot = view.getUint32(sqe + SQE_USER_DATA, true);
    const offset = this.number(sqe + SQE_OFF);
    this.tags[slot] = view.getUint32(sqe + SQE_USER_DATA + 4, true);
    this.sectors[slot] = Math.floor(offset / SECTOR_SIZE);
    traffic.inFlight++;
    const result = this.start(sqe, slot, offset);
    if (result < 0) this.ended(slot, result);
    return true;
  }

  /** A negated errno if the request has not begun. */
  private start(sqe: number, slot: number, offset: number): number {
    const { view, aio } = this;
    const opcode = view.getUint8(sqe + SQE_OPCODE);
    const address = this.number(sqe + SQE_ADDR);
    const length = view.getUint32(sqe + SQE_LEN, true);
    this.kinds[slot] = kindOf(opcode, length);
    if (this.traffic.isFenced) return -ESHUTDOWN;
    switch (opcode) {
      case IORING_OP_READ:
        this.lengths[slot] = length;
        return aio.read(slot, offset, address, length);
      case IORING_OP_READV:
        this.lengths[slot] = this.lengthOf(address, length);
        return aio.readVectors(slot, offset, address, length);
      // Whether it must be stable when it completes makes no difference: nothing is cached on the way.
      case IORING_OP_WRITE:
        this.lengths[slot] = length;
        return aio.write(slot, offset, address, length);
      case IORING_OP_WRITEV:
        this.lengths[slot] = this.lengthOf(address, length);
        return aio.writeVectors(slot, offset, address, length);
      case IORING_OP_FSYNC:
        return aio.flush(slot);
      case IORING_OP_FALLOCATE:
        // fallocate(2): the length is where others have an address, and the mode where they have a length.
        if (length & FALLOC_FL_NO_HIDE_STALE) return aio.discard(slot, offset, address);
        return aio.writeZeroes(slot, offset, address, (length & FALLOC_FL_PUNCH_HOLE) !== 0);
      default:
        return -EINVAL;
    }
  }

  private reap(): void {
    // Before the look: what completes behind it makes the descriptor readable again.
    drainEventfd(this.eventfd);
    this.aio.takeCompleted(this.tell);
  }

  private ended(slot: number, result: number): void {
    const { traffic } = this;
    traffic.inFlight--;
    traffic.completed++;
    if (result >= 0) {
      // Only a read tells how much it has moved: less where an image ends that has shrunk.
      const moved = this.kinds[slot] === WRITE ? this.lengths[slot]! : result;
      this.completeWords(slot, this.tags[slot]!, moved);
      return;
    }
    if (result === -ESHUTDOWN && !traffic.isFenced) this.fenced();
    this.failed(slot, result);
    this.completeWords(slot, this.tags[slot]!, MISLEADING.includes(result) ? -EIO : result);
  }

  private failed(slot: number, result: number): void {
    const kind = this.kinds[slot]!;
    // The core goes on by other means: it writes zeroes.
    if (result === -EOPNOTSUPP && kind >= DISCARD) return;
    const sector = kind === FLUSH ? undefined : this.sectors[slot];
    this.onFailure({ operation: NAMES[kind]!, result, sector, count: 1 });
  }

  /** What a table of I/O vectors in linear memory lists. */
  private lengthOf(address: number, count: number): number {
    const table = address - this.hostAddress;
    let byteLength = 0;
    for (let i = 0; i < count; i++)
      byteLength += this.view.getUint32(table + i * IOVEC_SIZE + IOVEC_LEN, true);
    return byteLength;
  }

  /** 64 bits that stand for less than 2^53: an address, or a place on the disk. */
  private number(at: number): number {
    return this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * WORD;
  }
}

function kindOf(opcode: number, mode: number): number {
  switch (opcode) {
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV:
      return WRITE;
    case IORING_OP_FSYNC:
      return FLUSH;
    case IORING_OP_FALLOCATE:
      return mode & FALLOC_FL_NO_HIDE_STALE ? DISCARD : WRITE_ZEROES;
    default:
      return READ;
  }
}
