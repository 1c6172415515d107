// Messages for a driver that posts buffers for them when it likes: they wait in order, and are bounded.
import type { Log } from "../process/log.ts";
import type { DeviceQueue } from "./device.ts";

export class Outbox {
  private pending: Uint8Array[] = [];
  private queue: DeviceQueue | undefined;

  /** `most`: more than a driver that takes its messages ever has before it. `emptied`: it has taken the last one. */
  constructor(
    private readonly most: number,
    private readonly log: () => Log,
    private readonly emptied: () => void = () => {},
  ) {}

  /** How many more may be added. */
  get room(): number {
    return this.most - this.pending.length;
  }

  start(queue: DeviceQueue): void {
    this.queue = queue;
    queue.onAvailable(() => this.send());
    this.send();
  }

  stop(): void {
    this.queue = undefined;
  }

  /** Nothing that was said counts any more. */
  clear(): void {
    this.pending = [];
  }

  /** All of them, or none. */
  add(...messages: readonly Uint8Array[]): void {
    if (messages.length > this.room) {
      this.log().warn("the driver does not take its messages: they are dropped");
      return;
    }
    this.pending.push(...messages);
    this.send();
  }

  private send(): void {
    while (this.queue && this.pending.length > 0) {
      const chain = this.queue.tryTake(this.pending.length);
      if (chain === undefined) return;
      const message = this.pending.shift()!;
      // A buffer that is too short for it is the driver's fault, and gets what it has room for.
      chain.out.bytes(message.subarray(0, chain.out.left));
      chain.use();
      if (this.pending.length === 0) this.emptied();
    }
  }
}
