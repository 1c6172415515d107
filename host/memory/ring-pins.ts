// Where the rings of a guest that is larger than linear memory lie in it: whole pages of their regions, while they run.
import { mapSharedAt, reserveAt } from "../linux/mapping.ts";

/** What is pinned: part of a region's file, in bytes. */
interface Pin {
  fd: number;
  fileStart: bigint;
  byteLength: number;
  ptr: number;
}

/** A region's file, and what offsets in a mapping of it must be a multiple of. */
export interface PinnedFile {
  fd: number;
  granularity: number;
}

/** Of a ring, beside the one that is asked for. */
const OTHER_PARTS = 2;

export class RingPins {
  /** In the order of their pointers. */
  private pins: Pin[] = [];
  /** Parts of running rings, by the ring's index. */
  private readonly held = new Map<number, readonly number[]>();
  /** What was asked for last: parts of a ring that is about to run. */
  private recent: number[] = [];
  private start = 0;
  private end = 0;

  /** Linear memory begins at `hostAddress`. */
  constructor(private readonly hostAddress: number) {}

  /** From here on pins lie between two pointers. None is there any more. */
  open(start: number, end: number): void {
    this.pins = [];
    this.held.clear();
    this.recent = [];
    this.start = start;
    this.end = end;
  }

  /** The pointer to `byteLength` bytes of the file, or undefined where no room is left. Throws SystemError. */
  pin(file: PinnedFile, fileOffset: bigint, byteLength: number): number | undefined {
    const ptr = this.find(file, fileOffset, byteLength);
    if (ptr !== undefined) this.recent = [...this.recent, ptr].slice(-OTHER_PARTS);
    return ptr;
  }

  /** The ring runs: its parts stay where they are. */
  hold(ring: number, ptrs: readonly number[]): void {
    this.held.set(ring, ptrs);
  }

  release(ring: number): void {
    this.held.delete(ring);
  }

  private find({ fd, granularity }: PinnedFile, fileOffset: bigint, byteLength: number): number | undefined {
    const fileStart = fileOffset - (fileOffset % BigInt(granularity));
    const lead = Number(fileOffset - fileStart);
    const length = Math.ceil((lead + byteLength) / granularity) * granularity;
    const known = this.pins.find((pin) => pin.fd === fd && holds(pin, fileStart, length));
    if (known) return known.ptr + Number(fileOffset - known.fileStart);
    const ptr = this.findRoom(granularity, length) ?? this.makeRoom(granularity, length);
    if (ptr === undefined) return undefined;
    mapSharedAt(this.hostAddress + ptr, fd, fileStart, length);
    this.pins.push({ fd, fileStart, byteLength: length, ptr });
    this.pins.sort((a, b) => a.ptr - b.ptr);
    return ptr + lead;
  }

  /** Gives up what no running ring uses: firmware and kernel, one after the other, have their rings in different places. */
  private makeRoom(granularity: number, byteLength: number): number | undefined {
    const used = [...[...this.held.values()].flat(), ...this.recent];
    const isUsed = (pin: Pin) => used.some((ptr) => ptr >= pin.ptr && ptr < pin.ptr + pin.byteLength);
    for (const pin of this.pins) {
      if (!isUsed(pin)) reserveAt(this.hostAddress + pin.ptr, pin.byteLength);
    }
    this.pins = this.pins.filter(isUsed);
    return this.findRoom(granularity, byteLength);
  }

  private findRoom(granularity: number, byteLength: number): number | undefined {
    // Huge pages want an aligned address of this process, wherever in it linear memory begins.
    const align = (ptr: number) =>
      Math.ceil((this.hostAddress + ptr) / granularity) * granularity - this.hostAddress;
    let ptr = align(this.start);
    for (const pin of this.pins) {
      if (ptr + byteLength <= pin.ptr) break;
      ptr = align(Math.max(ptr, pin.ptr + pin.byteLength));
    }
    return ptr + byteLength <= this.end ? ptr : undefined;
  }
}

function holds(pin: Pin, fileStart: bigint, byteLength: number): boolean {
  const pinEnd = pin.fileStart + BigInt(pin.byteLength);
  return fileStart >= pin.fileStart && fileStart + BigInt(byteLength) <= pinEnd;
}
