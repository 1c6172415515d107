// A virtio-blk driver on one virtqueue: any number of requests at a time.
import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_SIZE,
  BLK_HEADER_TYPE,
  RANGE_FLAGS,
  RANGE_NUM_SECTORS,
  RANGE_SECTOR,
  RANGE_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import { type AddOptions, NOTHING_USED, type Segment } from "../driver/ring.ts";
import type { Memory } from "./memory.ts";
import { withTimeout } from "./requests.ts";
import type { Virtqueue } from "./virtqueue.ts";

export interface BlkRequest {
  type: number;
  sector?: number | bigint;
  /** What the device reads after the header. */
  out?: Uint8Array;
  /** How many bytes the device writes before the status. */
  inLength?: number;
  /**
   * Lengths of the buffers, the header counted as readable and the status as writable: any framing will do
   * (virtio 1.4, 2.7.4.1). By default header, data and status have one each.
   */
  readableLengths?: readonly number[];
  writableLengths?: readonly number[];
  indirect?: boolean;
}

export interface BlkResult {
  /** 0xff if the device did not write it. */
  status: number;
  usedLength: number;
  data: Buffer;
}

export interface BlkRange {
  sector: number | bigint;
  sectors: number;
  flags?: number;
}

interface Completion {
  usedLength: number;
  /** What the device-writable buffers hold now. */
  written: Buffer;
}

/** Whoever waits for a chain to be used. */
interface Waiter {
  resolve(usedLength: number): void;
  reject(error: unknown): void;
}

const STATUS_UNWRITTEN = 0xff;

export class BlkDriver {
  requestTimeoutMs = 10_000;
  private readonly pending = new Map<number, Waiter>();
  private isPumping = false;

  constructor(
    readonly memory: Memory,
    readonly queue: Virtqueue,
    readonly capacity: number,
  ) {}

  async read(sector: number | bigint, sectors: number): Promise<Buffer> {
    return this.succeed({ type: VIRTIO_BLK_T_IN, sector, inLength: sectors * SECTOR_SIZE });
  }

  async write(sector: number | bigint, bytes: Uint8Array): Promise<void> {
    await this.succeed({ type: VIRTIO_BLK_T_OUT, sector, out: bytes });
  }

  async flush(): Promise<void> {
    await this.succeed({ type: VIRTIO_BLK_T_FLUSH });
  }

  async getId(): Promise<string> {
    const id = await this.succeed({ type: VIRTIO_BLK_T_GET_ID, inLength: VIRTIO_BLK_ID_BYTES });
    return id.toString("latin1").replace(/\0.*$/s, "");
  }

  async discard(ranges: readonly BlkRange[]): Promise<void> {
    await this.succeed({ type: VIRTIO_BLK_T_DISCARD, out: encodeRanges(ranges) });
  }

  async writeZeroes(ranges: readonly BlkRange[]): Promise<void> {
    await this.succeed({ type: VIRTIO_BLK_T_WRITE_ZEROES, out: encodeRanges(ranges) });
  }

  /** One request of any type and framing, whatever becomes of it. */
  async request(request: BlkRequest): Promise<BlkResult> {
    const { out = new Uint8Array(), inLength = 0 } = request;
    const readable = Buffer.concat([encodeBlkHeader(request.type, request.sector ?? 0), out]);
    const readableLengths = request.readableLengths ?? withoutZeroes([BLK_HEADER_SIZE, out.length]);
    const writableLengths = request.writableLengths ?? withoutZeroes([inLength, 1]);
    const { usedLength, written } = await this.submit(readable, readableLengths, writableLengths, request);
    return { status: written.at(-1) ?? STATUS_UNWRITTEN, usedLength, data: written.subarray(0, -1) };
  }

  /** A chain of any bytes at all: `readable` cut into buffers, then empty buffers to write to. */
  async submit(
    readable: Uint8Array,
    readableLengths: readonly number[],
    writableLengths: readonly number[],
    options: AddOptions = {},
  ): Promise<Completion> {
    const segments = this.allocateSegments(readableLengths, writableLengths);
    const completion = await this.submitAt(segments, readable, options);
    for (const { gpa, length } of segments) this.memory.free(gpa, length);
    return completion;
  }

  /** The same with buffers that lie where the caller says, which may be over the border of two regions. */
  async submitAt(
    segments: readonly Segment[],
    readable: Uint8Array,
    options: AddOptions = {},
  ): Promise<Completion> {
    this.fill(segments, readable);
    const token = this.queue.add(segments, options);
    const used = new Promise<number>((resolve, reject) => this.pending.set(token, { resolve, reject }));
    this.queue.publish();
    this.queue.kick();
    void this.pump();
    const usedLength = await withTimeout(used, this.requestTimeoutMs, "the request did not finish");
    const written = segments.filter((s) => s.writable).map((s) => this.memory.read(s.gpa, s.length));
    return { usedLength, written: Buffer.concat(written) };
  }

  private async succeed(request: BlkRequest): Promise<Buffer> {
    const { status, data } = await this.request(request);
    if (status !== VIRTIO_BLK_S_OK)
      throw new Error(`request type ${request.type} ended with status ${status}`);
    return data;
  }

  private allocateSegments(
    readableLengths: readonly number[],
    writableLengths: readonly number[],
  ): Segment[] {
    const segment = (length: number, writable: boolean) => ({
      gpa: this.memory.allocate(length),
      length,
      writable,
    });
    return [
      ...readableLengths.map((length) => segment(length, false)),
      ...writableLengths.map((length) => segment(length, true)),
    ];
  }

  private fill(segments: readonly Segment[], readable: Uint8Array): void {
    let at = 0;
    for (const { gpa, length, writable } of segments) {
      if (writable) {
        this.memory.write(gpa, Buffer.alloc(length, STATUS_UNWRITTEN));
      } else {
        this.memory.write(gpa, readable.subarray(at, at + length));
        at += length;
      }
    }
  }

  /** Hands completions to those who wait for them, until nobody does. */
  private async pump(): Promise<void> {
    if (this.isPumping) return;
    this.isPumping = true;
    try {
      do this.handOut();
      while (this.pending.size > 0 && (await this.queue.wait(this.requestTimeoutMs)));
    } catch (error) {
      for (const waiter of this.pending.values()) waiter.reject(error);
      this.pending.clear();
    } finally {
      this.isPumping = false;
    }
  }

  private handOut(): void {
    for (let token = this.queue.popUsed(); token !== NOTHING_USED; token = this.queue.popUsed()) {
      this.pending.get(token)?.resolve(this.queue.usedLength);
      this.pending.delete(token);
    }
  }
}

export function encodeBlkHeader(type: number, sector: number | bigint): Buffer {
  const header = Buffer.alloc(BLK_HEADER_SIZE);
  header.writeUInt32LE(type, BLK_HEADER_TYPE);
  header.writeBigUInt64LE(BigInt(sector), BLK_HEADER_SECTOR);
  return header;
}

export function encodeRanges(ranges: readonly BlkRange[]): Buffer {
  const bytes = Buffer.alloc(ranges.length * RANGE_SIZE);
  ranges.forEach(({ sector, sectors, flags = 0 }, i) => {
    bytes.writeBigUInt64LE(BigInt(sector), i * RANGE_SIZE + RANGE_SECTOR);
    bytes.writeUInt32LE(sectors, i * RANGE_SIZE + RANGE_NUM_SECTORS);
    bytes.writeUInt32LE(flags, i * RANGE_SIZE + RANGE_FLAGS);
  });
  return bytes;
}

function withoutZeroes(lengths: readonly number[]): number[] {
  return lengths.filter((length) => length > 0);
}
