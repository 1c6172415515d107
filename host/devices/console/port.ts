// One port: bytes between its two queues and its host side.
import { HostSide } from "../../streams/host-side.ts";
import type { Chain, DeviceQueue } from "../device.ts";

/** More than any driver puts into one chain; what is longer comes in parts. */
const PART_BYTES = 256 << 10;

export class Port {
  readonly host = new HostSide();
  /** As the driver says. Input waits until then. */
  isGuestOpen = false;
  private input: Buffer = Buffer.alloc(0);
  private receiving: DeviceQueue | undefined;
  private isTransmitting = false;

  constructor(
    readonly id: number,
    readonly name: string,
    readonly isConsole: boolean,
  ) {
    this.host.onInput = () => this.receive();
  }

  /** A console is there for the guest even if nobody looks at it. */
  get isHostOpen(): boolean {
    return this.isConsole || this.host.isTaken;
  }

  startReceiving(queue: DeviceQueue): void {
    this.receiving = queue;
    queue.onAvailable(() => this.receive());
    this.receive();
  }

  startTransmitting(queue: DeviceQueue): void {
    this.isTransmitting = true;
    queue.serve((chain) => this.transmit(chain));
  }

  stopReceiving(): void {
    this.receiving = undefined;
  }

  stopTransmitting(): void {
    this.isTransmitting = false;
    this.host.endWaits();
  }

  /** Gives the guest what the peer has sent, as far as it has buffers: the peer waits otherwise. */
  receive(): void {
    while (this.receiving && this.isGuestOpen) {
      if (this.input.length === 0) this.input = this.host.read();
      const chain = this.input.length > 0 ? this.receiving.tryTake() : undefined;
      if (chain === undefined) return;
      const part = this.input.subarray(0, chain.out.left);
      chain.out.bytes(part);
      chain.use();
      this.input = this.input.subarray(part.length);
    }
  }

  /**
   * A peer that does not read keeps the chain, and the others in their ring. Where nobody is, output is dropped: a guest's kernel
   * waits for each line, and would do nothing else.
   */
  private async transmit(chain: Chain): Promise<void> {
    while (this.host.isTaken && this.isTransmitting && chain.in.left > 0) {
      await this.host.write(chain.in.bytes(Math.min(chain.in.left, PART_BYTES)));
    }
    chain.use(0);
  }
}
