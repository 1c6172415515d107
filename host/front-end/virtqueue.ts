// The driver's side of a virtqueue, as far as split and packed rings are alike: identifiers, notifications, waiting.
import { VIRTQ_SIZE_MAX, VIRTQ_SIZE_MIN } from "../../assembly/spec/virtqueue.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../linux/eventfd.ts";
import { close } from "../linux/libc.ts";
import { whenReadable } from "../linux/readiness.ts";
import type { Memory } from "./memory.ts";

/** One element of a descriptor chain. */
export interface Segment {
  gpa: number;
  length: number;
  writable: boolean;
}

export interface AddOptions {
  indirect?: boolean;
  /** Where the caller has written the indirect table already. */
  tableAt?: number;
}

/** A descriptor as it lies in a ring: whatever a hostile driver likes. The last field is `next` or `id`. */
export interface RawDescriptor {
  addr: bigint;
  len: number;
  flags: number;
  next?: number;
  id?: number;
}

/** Guest addresses of a ring's parts, by their names in SET_VRING_ADDR. */
export interface RingAddresses {
  descriptor: number;
  available: number;
  used: number;
}

export interface VirtqueueOptions {
  size: number;
  eventIdx?: boolean;
  /** The region that rings and indirect tables are allocated in. */
  regionIndex?: number;
}

/** What a queue needs of guest memory. */
export type QueueMemory = Pick<Memory, "allocate" | "view" | "bytes">;

export interface Used {
  token: number;
  length: number;
}

interface IndirectTable {
  gpa: number;
  words: Uint32Array;
  capacity: number;
}

export const NOTHING_USED = -1;

/** No device takes so long from a used chain to its call. */
const CALL_OVERDUE_MS = 1000;

export abstract class Virtqueue {
  readonly size: number;
  readonly kickFd = createEventfd();
  callFd = createEventfd();
  readonly errFd = createEventfd();
  /** Kicks sent and calls received, to tell how well suppression works. */
  kickCount = 0;
  callCount = 0;
  /** The length of the chain that popUsed() returned last. */
  usedLength = 0;

  protected readonly eventIdx: boolean;
  protected readonly regionIndex: number;
  /** Ring entries that each token occupies; 0 when it isn't in flight. */
  protected readonly entriesOf: Uint16Array;
  private readonly tables: IndirectTable[] = [];
  private watcher: { stop(): void };
  private wake: (() => void) | undefined;
  private isClosed = false;

  constructor(
    protected readonly memory: QueueMemory,
    options: VirtqueueOptions,
  ) {
    if (options.size < VIRTQ_SIZE_MIN || options.size > VIRTQ_SIZE_MAX) throw new RangeError("queue size");
    this.size = options.size;
    this.eventIdx = options.eventIdx ?? false;
    this.regionIndex = options.regionIndex ?? 0;
    this.entriesOf = new Uint16Array(options.size);
    this.watcher = this.watch(this.callFd);
  }

  abstract readonly isPacked: boolean;
  /** Guest addresses of the three parts. */
  abstract readonly addresses: RingAddresses;
  /** What SET_VRING_BASE says of a ring that was never used. */
  abstract readonly initialBase: number;

  /** Adds a chain, which the device sees after publish(). The token names it until it is used. */
  abstract add(segments: readonly Segment[], options?: AddOptions): number;
  /** Shows the device all that was added since, at once. */
  abstract publish(): void;
  /** The next used chain's token, or NOTHING_USED. Allocates nothing; the length is in usedLength. */
  abstract popUsed(): number;
  abstract hasUsed(): boolean;
  abstract enableCalls(): void;
  abstract disableCalls(): void;
  abstract writeDescriptor(index: number, descriptor: RawDescriptor): void;
  /** Whether the device asked for a kick for what was published since the last call of this. */
  protected abstract needsKick(): boolean;

  /** Tells the device, if it wants to know or `force` is given. Returns whether it was told. */
  kick(force = false): boolean {
    const isWanted = this.needsKick();
    if (!isWanted && !force) return false;
    this.kickCount++;
    signalEventfd(this.kickFd);
    return true;
  }

  poll(): Used[] {
    const used: Used[] = [];
    for (let token = this.popUsed(); token !== NOTHING_USED; token = this.popUsed()) {
      used.push({ token, length: this.usedLength });
    }
    return used;
  }

  /**
   * Sleeps until something is used; false if nothing is in time. One call at a time. Throws if something was used and
   * the device made no call, though calls are on.
   */
  async wait(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    // Enabling first and looking again closes the gap in which a call would not be sent.
    this.enableCalls();
    while (!this.hasUsed() && !this.isClosed) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) break;
      const isCalled = await this.called(leftMs);
      // A short wait may end between the two, or the device with it.
      const isOverdue = !isCalled && timeoutMs >= CALL_OVERDUE_MS;
      if (isOverdue && !this.isClosed && this.hasUsed() && !drainEventfd(this.callFd)) {
        throw new Error("the device used a chain and made no call");
      }
    }
    if (this.isClosed) return false;
    this.disableCalls();
    return this.hasUsed();
  }

  /** Whether the device reported this ring as broken since the last time. */
  takeError(): boolean {
    return drainEventfd(this.errFd);
  }

  inFlight(): number {
    return this.entriesOf.reduce((count, entries) => count + (entries > 0 ? 1 : 0), 0);
  }

  /** Another call eventfd, once `hand` has told the device of it: from then on nobody looks at the one before. */
  async replaceCallFd(hand: (fd: number) => Promise<void>): Promise<void> {
    const fd = createEventfd();
    const watcher = this.watch(fd);
    await hand(fd);
    this.watcher.stop();
    close(this.callFd);
    this.callFd = fd;
    this.watcher = watcher;
  }

  /** Ends waiting and closes the eventfds. The memory is the owner's to close. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.watcher.stop();
    this.wake?.();
    for (const fd of [this.kickFd, this.callFd, this.errFd]) close(fd);
  }

  protected checkInFlight(token: number): void {
    if (token >= this.size || this.entriesOf[token] === 0) {
      throw new Error(`the device used ${token}, which is not in flight`);
    }
  }

  /** Memory for a part of the ring. Whatever lay there before would pass for what a driver or a device wrote. */
  protected allocateZeroed(byteLength: number): number {
    const gpa = this.memory.allocate(byteLength, this.regionIndex);
    this.memory.bytes(gpa, byteLength).fill(0);
    return gpa;
  }

  /** The token's own indirect table, large enough for `count` descriptors. */
  protected indirectTable(token: number, count: number): IndirectTable {
    const existing = this.tables[token];
    if (existing !== undefined && existing.capacity >= count) return existing;
    const gpa = this.memory.allocate(count * 16, this.regionIndex);
    const table = { gpa, words: new Uint32Array(this.memory.view(gpa, count * 16)), capacity: count };
    this.tables[token] = table;
    return table;
  }

  private watch(fd: number): { stop(): void } {
    return whenReadable(fd, () => {
      if (drainEventfd(fd)) this.callCount++;
      this.wake?.();
    });
  }

  /** False when the time is over. */
  private called(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (isCalled: boolean) => {
        clearTimeout(timer);
        this.wake = undefined;
        resolve(isCalled);
      };
      const timer = setTimeout(() => end(false), timeoutMs);
      this.wake = () => end(true);
    });
  }
}

/** vring_need_event() (virtio 1.4, 2.7.10): whether moving from `before` to `after` passed `event`. */
export function passedEvent(event: number, after: number, before: number): boolean {
  return ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);
}

/** Writes addr, len, flags and the 16-bit field beside them, as both kinds of descriptor table have them. */
export function writeAddrLen(words: Uint32Array, index: number, gpa: number, length: number): void {
  words[index * 4] = gpa % 0x1_0000_0000;
  words[index * 4 + 1] = Math.floor(gpa / 0x1_0000_0000);
  words[index * 4 + 2] = length;
}
