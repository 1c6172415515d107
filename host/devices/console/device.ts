// Consoles and named ports for guests (virtio 1.4, 5.3): which queue is whose, and what was negotiated.

import { type Log, SILENT } from "../../process/log.ts";
import { featureMask, hasFeature } from "../../protocol/feature-bits.ts";
import { openWay } from "../../streams/open.ts";
import type { DeviceHost, DeviceQueue, QueueSpec, VirtioDevice } from "../device.ts";
import { ConsoleConfig } from "./config.ts";
import { Control } from "./control.ts";
import type { PortChoice } from "./options.ts";
import { Port } from "./port.ts";

const VIRTIO_CONSOLE_F_SIZE = 0;
const VIRTIO_CONSOLE_F_MULTIPORT = 1;
const VIRTIO_CONSOLE_F_EMERG_WRITE = 2;

const CONTROL_RECEIVE = 2;
const CONTROL_TRANSMIT = 3;

export class ConsoleDevice implements VirtioDevice {
  readonly type = "console";
  readonly virtioId = 3;
  readonly queues: readonly QueueSpec[];
  readonly features: bigint;
  readonly config: ConsoleConfig;
  private readonly control: Control;
  private closers: (() => void)[] = [];
  private host: DeviceHost | undefined;
  private log: Log = SILENT;
  private isMultiport = false;

  private constructor(readonly ports: readonly Port[]) {
    const bits = [VIRTIO_CONSOLE_F_SIZE, VIRTIO_CONSOLE_F_EMERG_WRITE];
    this.features = featureMask(ports.length > 1 ? [...bits, VIRTIO_CONSOLE_F_MULTIPORT] : bits);
    this.queues = queuesOf(ports.length);
    this.config = new ConsoleConfig(
      ports.length,
      (character) => void ports[0]!.host.write(Uint8Array.of(character)),
    );
    this.control = new Control(ports, () => this.log);
    for (const port of ports) {
      port.host.onPeer = () => this.control.tellOpen(port);
      port.host.onSize = () => this.resized(port);
    }
  }

  /** The first port is the console that a kernel finds without being told; one whose name begins with "hvc" is one too. Throws StartError. */
  static async open(choices: readonly PortChoice[]): Promise<ConsoleDevice> {
    const isConsole = (name: string, id: number) => id === 0 || name.startsWith("hvc");
    const device = new ConsoleDevice(choices.map(({ name }, id) => new Port(id, name, isConsole(name, id))));
    try {
      for (const [id, choice] of choices.entries()) {
        device.closers.push(await openWay(choice, device.ports[id]!.host));
      }
    } catch (error) {
      device.close();
      throw error;
    }
    return device;
  }

  attach(host: DeviceHost): void {
    this.host = host;
    this.log = host.log;
  }

  /** Without ports to tell apart, the one that there is is open. */
  negotiated(features: bigint): void {
    this.isMultiport = hasFeature(features, VIRTIO_CONSOLE_F_MULTIPORT);
    if (features === 0n) this.control.reset();
    if (!this.isMultiport) for (const port of this.ports) port.isGuestOpen = features !== 0n && port.id === 0;
  }

  /** What a driver has said of its ports before is not known: they were open, or nobody sends to them. */
  inherited(): void {
    for (const port of this.ports) port.isGuestOpen = true;
  }

  start(queue: DeviceQueue): void {
    const { index } = queue;
    if (index === CONTROL_RECEIVE) this.control.startReceiving(queue);
    else if (index === CONTROL_TRANSMIT) queue.serve((chain) => this.control.handle(chain));
    else if (isReceive(index)) this.portOf(index).startReceiving(queue);
    else this.portOf(index).startTransmitting(queue);
  }

  stop({ index }: DeviceQueue): void {
    if (index === CONTROL_RECEIVE) this.control.stopReceiving();
    else if (index === CONTROL_TRANSMIT) return;
    else if (isReceive(index)) this.portOf(index).stopReceiving();
    else this.portOf(index).stopTransmitting();
  }

  close(): void {
    for (const close of this.closers.splice(0)) close();
    for (const port of this.ports) port.host.close();
  }

  /** By config space where there is one port alone (5.3.6), else by messages. */
  private resized(port: Port): void {
    if (port.id === 0) this.config.size = port.host.size!;
    if (this.isMultiport) this.control.tellSize(port);
    else if (port.id === 0) this.host?.configChanged();
  }

  private portOf(index: number): Port {
    return this.ports[index < CONTROL_RECEIVE ? 0 : (index >> 1) - 1]!;
  }
}

/** Receive and transmit of port 0, of the control messages, of the other ports (5.3.2). */
function queuesOf(portCount: number): QueueSpec[] {
  const pair = (name: string): QueueSpec[] => [
    { name: `receiveq(${name})`, credit: "asked", recover: "forget" },
    { name: `transmitq(${name})`, credit: "all", recover: "fail" },
  ];
  if (portCount === 1) return pair("port0");
  const others = Array.from({ length: portCount - 1 }, (_, i) => pair(`port${i + 1}`));
  return [...pair("port0"), ...pair("control"), ...others.flat()];
}

function isReceive(index: number): boolean {
  return index % 2 === 0;
}
