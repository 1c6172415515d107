// Control messages between device and driver about ports (virtio 1.4, 5.3.6.2).
import type { Log } from "../../process/log.ts";
import type { Chain, DeviceQueue } from "../device.ts";
import type { Port } from "./port.ts";

const DEVICE_READY = 0;
const DEVICE_ADD = 1;
const PORT_READY = 3;
const CONSOLE_PORT = 4;
const RESIZE = 5;
const PORT_OPEN = 6;
const PORT_NAME = 7;

/** More than a driver that takes its messages ever has before it, for each port. */
const MESSAGES_A_PORT = 16;

export class Control {
  /** Of messages that the driver has no buffers for yet. */
  private pending: Buffer[] = [];
  /** Ports that the driver has set up. */
  private readonly ready = new Set<Port>();
  private queue: DeviceQueue | undefined;

  constructor(
    private readonly ports: readonly Port[],
    private readonly log: () => Log,
  ) {}

  /** Nothing that was said counts any more. */
  reset(): void {
    this.pending = [];
    this.ready.clear();
  }

  startReceiving(queue: DeviceQueue): void {
    this.queue = queue;
    queue.onAvailable(() => this.send());
    this.send();
  }

  stopReceiving(): void {
    this.queue = undefined;
  }

  /** Whether somebody is at the port's host side. */
  tellOpen(port: Port): void {
    if (this.ready.has(port)) this.add(port.id, PORT_OPEN, Number(port.isHostOpen));
  }

  /** Columns first, as the specification has it. Linux took the first number for the rows until 2025. */
  tellSize(port: Port): void {
    const {
      id,
      host: { size },
    } = port;
    if (size === undefined || !port.isConsole || !this.ready.has(port)) return;
    const numbers = Buffer.alloc(4);
    numbers.writeUInt16LE(size.cols, 0);
    numbers.writeUInt16LE(size.rows, 2);
    this.add(id, RESIZE, 0, numbers);
  }

  /** The driver has sent a message. One that makes no sense is as none. */
  handle(chain: Chain): void {
    const port = this.ports[chain.in.u32()];
    const event = chain.in.u16();
    const value = chain.in.u16();
    chain.use(0);
    if (event === DEVICE_READY && value === 1) for (const { id } of this.ports) this.add(id, DEVICE_ADD, 0);
    if (port === undefined) return;
    if (event === PORT_READY && value === 1) this.introduce(port);
    if (event === PORT_OPEN) {
      port.isGuestOpen = value === 1;
      port.receive();
    }
  }

  private introduce(port: Port): void {
    this.ready.add(port);
    if (port.isConsole) this.add(port.id, CONSOLE_PORT, 1);
    this.tellSize(port);
    this.add(port.id, PORT_NAME, 1, Buffer.from(port.name));
    if (port.isHostOpen) this.tellOpen(port);
  }

  private add(id: number, event: number, value: number, more = Buffer.alloc(0)): void {
    if (this.pending.length >= MESSAGES_A_PORT * this.ports.length) {
      this.log().warn("the driver does not take its control messages: they are dropped");
      return;
    }
    const message = Buffer.alloc(8);
    message.writeUInt32LE(id, 0);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    this.pending.push(Buffer.concat([message, more]));
    this.send();
  }

  private send(): void {
    while (this.queue && this.pending.length > 0) {
      const chain = this.queue.tryTake();
      if (chain === undefined) return;
      const message = this.pending.shift()!;
      // A buffer that is too short for it is the driver's fault, and gets what it has room for.
      chain.out.bytes(message.subarray(0, chain.out.left));
      chain.use();
    }
  }
}
