// Control messages between device and driver about ports (virtio 1.4, 5.3.6.2).
import * as spec from "../../../assembly/spec/virtio-console.ts";
import type { Log } from "../../process/log.ts";
import type { Chain } from "../device.ts";
import { Outbox } from "../outbox.ts";
import type { Port } from "./port.ts";

const MESSAGES_A_PORT = 16;

export class Control {
  readonly outbox: Outbox;
  /** Ports that the driver has set up. */
  private readonly ready = new Set<Port>();

  constructor(
    private readonly ports: readonly Port[],
    log: () => Log,
  ) {
    this.outbox = new Outbox(MESSAGES_A_PORT * ports.length, log);
  }

  reset(): void {
    this.outbox.clear();
    this.ready.clear();
  }

  /** The driver has set its ports up before, with another process, and may believe what it heard there of their host sides. */
  inherit(): void {
    if (this.ready.size > 0) return;
    for (const port of this.ports) {
      this.ready.add(port);
      this.tellOpen(port);
    }
  }

  /** Whether somebody is at the port's host side. */
  tellOpen(port: Port): void {
    if (this.ready.has(port)) this.tell(port, spec.VIRTIO_CONSOLE_PORT_OPEN, Number(port.isHostOpen));
  }

  /** Columns first, as the specification has it. Linux took the first number for the rows until 2025. */
  tellSize(port: Port): void {
    const { size } = port.host;
    if (size === undefined || !port.isConsole || !this.ready.has(port)) return;
    const numbers = Buffer.alloc(4);
    numbers.writeUInt16LE(size.cols, 0);
    numbers.writeUInt16LE(size.rows, 2);
    this.tell(port, spec.VIRTIO_CONSOLE_RESIZE, 0, numbers);
  }

  /** The driver has sent a message. One that makes no sense is as none. */
  handle(chain: Chain): void {
    const port = this.ports[chain.in.u32()];
    const event = chain.in.u16();
    const value = chain.in.u16();
    chain.use(0);
    if (event === spec.VIRTIO_CONSOLE_DEVICE_READY) this.begin(value === 1);
    if (port === undefined) return;
    if (event === spec.VIRTIO_CONSOLE_PORT_READY && value === 1) this.introduce(port);
    if (event === spec.VIRTIO_CONSOLE_PORT_OPEN) port.input.want(value === 1);
  }

  /** A driver begins. A reset that went before is not always told, so nothing of an earlier driver counts from here on. */
  private begin(isReady: boolean): void {
    this.reset();
    for (const port of this.ports) {
      port.input.want(false);
      if (isReady) this.tell(port, spec.VIRTIO_CONSOLE_DEVICE_ADD, 0);
    }
  }

  private introduce(port: Port): void {
    this.ready.add(port);
    if (port.isConsole) this.tell(port, spec.VIRTIO_CONSOLE_CONSOLE_PORT, 1);
    this.tellSize(port);
    this.tell(port, spec.VIRTIO_CONSOLE_PORT_NAME, 1, Buffer.from(port.name));
    if (port.isHostOpen) this.tellOpen(port);
  }

  private tell({ id }: Port, event: number, value: number, more = Buffer.alloc(0)): void {
    const message = Buffer.alloc(8);
    message.writeUInt32LE(id, 0);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    this.outbox.add(Buffer.concat([message, more]));
  }
}
