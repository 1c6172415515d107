// Bytes between a host side and the two queues that a driver has for them.
import type { HostSide } from "../streams/host-side.ts";
import type { Chain, DeviceQueue } from "./device.ts";

/** How much is copied at a time. */
const PART_BYTES = 256 << 10;
/** The most that is kept of a chain whose ring stops half-way: more than any driver puts into one. */
const REST_BYTES = 16 << 20;

/** Gives the driver what a peer has sent, as far as it has buffers: the peer waits otherwise. */
export class ByteInput {
  private queue: DeviceQueue | undefined;
  private isWanted = false;

  constructor(private readonly host: HostSide) {
    host.onInput = () => this.pass();
  }

  start(queue: DeviceQueue): void {
    this.queue = queue;
    queue.onAvailable(() => this.pass());
    this.pass();
  }

  stop(): void {
    this.queue = undefined;
  }

  /** Whether the driver takes any. Until then peers wait. */
  want(isWanted: boolean): void {
    this.isWanted = isWanted;
    this.pass();
  }

  private pass(): void {
    while (this.queue && this.isWanted && this.host.hasInput) {
      const chain = this.queue.tryTake();
      if (chain === undefined) return;
      chain.out.bytes(this.host.read(chain.out.left));
      chain.use();
    }
  }
}

/** Gives peers what the driver sends. */
export class ByteOutput {
  private isRunning = false;

  constructor(private readonly host: HostSide) {}

  start(queue: DeviceQueue): void {
    this.isRunning = true;
    queue.serve((chain) => this.pass(chain));
  }

  stop(): void {
    this.isRunning = false;
    this.host.endWaits();
  }

  /**
   * A peer that does not read keeps the chain, and the others in their ring, for as long as its host side has patience. Where nobody is, output is dropped: a guest's kernel
   * waits for each line, and would do nothing else. When the ring stops, a chain that was not begun comes again; of another the
   * peer gets the rest without being waited for.
   */
  private async pass(chain: Chain): Promise<void> {
    for (let isBegun = false; this.host.isTaken && chain.in.left > 0; isBegun = true) {
      await this.host.room();
      if (!this.isRunning && !isBegun) return chain.park();
      const part = this.isRunning ? PART_BYTES : REST_BYTES;
      this.host.write(chain.in.bytes(Math.min(chain.in.left, part)));
      if (!this.isRunning) break;
    }
    chain.use(0);
  }
}
