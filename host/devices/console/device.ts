// Consoles and named ports for guests (virtio 1.4, 5.3): which queue is whose, and what was negotiated.
import * as spec from "../../../assembly/spec/virtio-console.ts";
import { StartError } from "../../errors.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { featureMask, hasFeature } from "../../protocol/feature-bits.ts";
import { openHostSides } from "../../streams/open.ts";
import type { NamedTarget } from "../../streams/target.ts";
import type { DeviceHost, DeviceQueue, QueueSpec, Terminal, VirtioDevice } from "../device.ts";
import { ConsoleConfig } from "./config.ts";
import { Control } from "./control.ts";
import { FEATURE_NAMES } from "./options.ts";
import { Port } from "./port.ts";

const CONTROL_RECEIVE = 2;
const CONTROL_TRANSMIT = 3;

export class ConsoleDevice implements VirtioDevice {
  readonly type = "console";
  readonly virtioId = spec.VIRTIO_ID_CONSOLE;
  readonly featureNames = FEATURE_NAMES;
  readonly queues: readonly QueueSpec[];
  readonly features: bigint;
  readonly config: ConsoleConfig;
  readonly terminals: ReadonlyMap<string, Terminal>;
  private readonly control: Control;
  private host: DeviceHost | undefined;
  private log: Log = SILENT;
  private isMultiport = false;

  private constructor(readonly ports: readonly Port[]) {
    const bits = [spec.VIRTIO_CONSOLE_F_SIZE, spec.VIRTIO_CONSOLE_F_EMERG_WRITE];
    this.features = featureMask(ports.length > 1 ? [...bits, spec.VIRTIO_CONSOLE_F_MULTIPORT] : bits);
    this.queues = queuesOf(ports.length);
    this.config = new ConsoleConfig(ports);
    this.terminals = new Map(ports.map(({ name, host }) => [name, host]));
    this.control = new Control(ports, () => this.log);
    for (const port of ports) {
      port.host.onPeer = () => this.control.tellOpen(port);
      port.host.onSize = () => this.resized(port);
    }
  }

  /** Throws StartError. */
  static async open(targets: readonly NamedTarget[]): Promise<ConsoleDevice> {
    const twice = targets.find(({ name }, id) => targets.findIndex((each) => each.name === name) < id);
    if (twice) throw new StartError(`two ports are called ${twice.name}: give each a name of its own`);
    const sides = await openHostSides(targets);
    return new ConsoleDevice(targets.map(({ name }, id) => new Port(id, name, sides[id]!)));
  }

  attach(host: DeviceHost): void {
    this.host = host;
    this.log = host.log;
  }

  /** Without ports to tell apart, the one that there is is open. */
  negotiated(features: bigint): void {
    this.isMultiport = hasFeature(features, spec.VIRTIO_CONSOLE_F_MULTIPORT);
    if (features === 0n) this.control.reset();
    if (!this.isMultiport) for (const { id, input } of this.ports) input.want(features !== 0n && id === 0);
  }

  /** What a driver has said of its ports before is not known: they were open, or nobody sends to them. */
  inherited(): void {
    for (const port of this.ports) port.input.want(true);
    if (this.isMultiport) this.control.inherit();
  }

  start(queue: DeviceQueue): void {
    if (queue.index === CONTROL_TRANSMIT) queue.serve((chain) => this.control.handle(chain));
    else this.endOf(queue).start(queue);
  }

  stop(queue: DeviceQueue): void {
    if (queue.index !== CONTROL_TRANSMIT) this.endOf(queue).stop();
  }

  async close(): Promise<void> {
    await Promise.all(this.ports.map(({ host }) => host.close()));
  }

  /** By config space where there is one port alone (5.3.6), else by messages. */
  private resized(port: Port): void {
    if (this.isMultiport) this.control.tellSize(port);
    else if (port.id === 0) this.host?.configChanged();
  }

  private endOf({ index }: DeviceQueue) {
    if (index === CONTROL_RECEIVE) return this.control.outbox;
    const port = this.ports[index < CONTROL_RECEIVE ? 0 : (index >> 1) - 1]!;
    return index % 2 === 0 ? port.input : port.output;
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
