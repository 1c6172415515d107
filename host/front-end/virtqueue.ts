// A virtqueue as a front-end has it: a ring, the eventfds beside it, and waiting for what the device gives back.

import { PackedRing } from "../driver/packed.ts";
import type { AddOptions, DriverRing, RingMemory, RingOptions, Segment } from "../driver/ring.ts";
import { NOTHING_USED } from "../driver/ring.ts";
import { SplitRing } from "../driver/split.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../linux/eventfd.ts";
import { close } from "../linux/libc.ts";
import { whenReadable } from "../linux/readiness.ts";

export interface Used {
  token: number;
  length: number;
}

/** No device takes so long from a used chain to its call. */
const CALL_OVERDUE_MS = 1000;

export class Virtqueue {
  readonly ring: DriverRing;
  readonly kickFd = createEventfd();
  callFd = createEventfd();
  readonly errFd = createEventfd();
  /** Kicks sent and calls received, to tell how well suppression works. */
  kickCount = 0;
  callCount = 0;
  private watcher: { stop(): void };
  private wake: (() => void) | undefined;
  private isClosed = false;

  constructor(memory: RingMemory, { packed, ...options }: RingOptions & { packed: boolean }) {
    this.ring = packed ? new PackedRing(memory, options) : new SplitRing(memory, options);
    this.watcher = this.watch(this.callFd);
  }

  get size(): number {
    return this.ring.size;
  }

  /** Of the chain that popUsed() returned last. */
  get usedLength(): number {
    return this.ring.usedLength;
  }

  add(segments: readonly Segment[], options?: AddOptions): number {
    return this.ring.add(segments, options);
  }

  publish(): void {
    this.ring.publish();
  }

  popUsed(): number {
    return this.ring.popUsed();
  }

  hasUsed(): boolean {
    return this.ring.hasUsed();
  }

  /** Tells the device, if it wants to know or `force` is given. Returns whether it was told. */
  kick(force = false): boolean {
    const isWanted = this.ring.takeKickWish();
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
    this.ring.enableCalls();
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
    this.ring.disableCalls();
    return this.hasUsed();
  }

  /** Whether the device reported this ring as broken since the last time. */
  takeError(): boolean {
    return drainEventfd(this.errFd);
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
