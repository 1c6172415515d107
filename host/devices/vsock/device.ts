// Sockets between a guest and its host (virtio 1.4, 5.10): which queue carries what, and when a guest's life begins anew.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { featureMask, hasFeature } from "../../protocol/feature-bits.ts";
import type {
  Chain,
  ConfigSpace,
  DeviceCommand,
  DeviceFacts,
  DeviceHost,
  DeviceQueue,
  QueueSpec,
  VirtioDevice,
} from "../device.ts";
import { Outbox } from "../outbox.ts";
import { type Call, Connections } from "./connections.ts";
import { DEFAULT_GROUP, type GuestChoice } from "./guests/guest.ts";
import { HostEnd } from "./host-end.ts";
import { MachineEnd } from "./machine-end.ts";
import { Mail } from "./mail.ts";
import { FEATURE_NAMES } from "./options.ts";
import { readPacket } from "./packet.ts";
import { PATIENCE, type Patience } from "./patience.ts";
import { connectionsCommand, gaugesOf, watchedOf } from "./report.ts";
import { callSibling, Neighbourhood, type Sibling } from "./siblings/neighbourhood.ts";

const RX = 0;
const TX = 1;

/** Packets of the guest's that are at hand in a turn. None waits for anything. */
const TX_AHEAD = 64;

export class VsockDevice implements VirtioDevice, Sibling {
  readonly type = "vsock";
  readonly virtioId = spec.VIRTIO_ID_VSOCK;
  readonly featureNames = FEATURE_NAMES;
  readonly queues: readonly QueueSpec[] = [
    { name: "rx", credit: "asked", recover: "forget" },
    { name: "tx", credit: "all", recover: "fail" },
    { name: "event", credit: "asked", recover: "forget" },
  ];
  readonly features = featureMask([
    spec.VIRTIO_VSOCK_F_STREAM,
    spec.VIRTIO_VSOCK_F_SEQPACKET,
    spec.VIRTIO_VSOCK_F_NO_IMPLIED_STREAM,
  ]);
  readonly config: ConfigSpace;
  readonly facts: DeviceFacts;
  readonly commands: Readonly<Record<string, DeviceCommand>>;
  private readonly mail: Mail;
  private readonly events = new Outbox(1, () => this.log);
  private readonly connections: Connections;
  private readonly host: HostEnd;
  private readonly machine: MachineEnd | undefined;
  readonly guestCid: number;
  readonly groups: readonly string[];
  private log: Log = SILENT;
  /** Packets of this turn, which are used together once their data are the host's. */
  private taken: Chain[] = [];

  private constructor(
    private readonly choice: GuestChoice,
    patience: Patience,
    private readonly neighbours: Neighbourhood,
  ) {
    const { guestCid, udsPath, maxConnections, groups = [DEFAULT_GROUP], forwardCid, forwardListen } = choice;
    this.guestCid = guestCid;
    this.groups = groups;
    this.config = configOf(guestCid);
    this.mail = new Mail(guestCid);
    this.connections = new Connections(
      patience,
      maxConnections,
      this.mail,
      () => this.host,
      (cid) => this.callOf(cid),
    );
    this.commands = { connections: connectionsCommand(this.connections) };
    this.facts = factsOf(choice, this.connections);
    const { connections } = this;
    const ends = {
      log: () => this.log,
      admit: () => connections.admit(),
      called: connections.call.bind(connections),
    };
    this.host = HostEnd.open({ ...ends, path: udsPath, patience });
    try {
      const isForwarded = forwardCid !== undefined || forwardListen !== undefined;
      this.machine = isForwarded ? MachineEnd.open({ ...ends, forwardCid, forwardListen }) : undefined;
    } catch (error) {
      this.host.close();
      throw error;
    }
    neighbours.join(this);
  }

  /** Throws StartError. `neighbours`: guests of the same process. */
  static open(choice: GuestChoice, patience = PATIENCE, neighbours = new Neighbourhood()): VsockDevice {
    return new VsockDevice(choice, patience, neighbours);
  }

  attach({ log }: DeviceHost): void {
    this.log = log;
  }

  connected(): void {
    this.connections.isServed = true;
  }

  negotiated(features: bigint): void {
    this.connections.hasMessages = hasFeature(features, spec.VIRTIO_VSOCK_F_SEQPACKET);
  }

  start(queue: DeviceQueue): void {
    if (queue.index === RX) {
      this.mail.start(queue);
      this.connections.ask();
    } else if (queue.index === TX) {
      const concurrency = Math.min(TX_AHEAD, queue.size);
      queue.serve((chain) => this.receive(chain), { concurrency });
    } else this.events.start(queue);
  }

  stop(queue: DeviceQueue): void {
    if (queue.index === RX) this.mail.stop();
    else if (queue.index !== TX) this.events.stop();
  }

  /** A driver of before has connections that nobody here knows of: it is told to end them (5.10.6.7). */
  inherited(): void {
    const event = Buffer.alloc(spec.VSOCK_EVENT_SIZE);
    event.writeUInt32LE(spec.VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    this.events.clear();
    this.events.add(event);
  }

  disconnected(): void {
    this.connections.isServed = false;
    this.reset();
  }

  reset(): void {
    this.connections.endAll();
    this.events.clear();
  }

  close(): void {
    this.neighbours.leave(this);
    this.reset();
    this.machine?.close();
    this.host.close();
  }

  called(...call: Parameters<Sibling["called"]>): boolean {
    return this.connections.callFromSibling(...call);
  }

  private callOf(cid: number): Call | undefined {
    const { forwardCid } = this.choice;
    if (cid === forwardCid || (cid === spec.VSOCK_CID_HOST && forwardCid !== undefined))
      return ({ port }, kind, answered) => this.machine!.call(port, kind, answered);
    if (cid === spec.VSOCK_CID_HOST)
      return ({ port }, kind, answered) => this.host.call(port, kind, answered);
    const sibling = this.neighbours.find(this, cid);
    return (
      sibling && ((packet, kind, answered) => callSibling(this.guestCid, sibling, packet, kind, answered))
    );
  }

  /** What another CID claims to have sent is nobody's (5.10.6.4). */
  private receive(chain: Chain): void {
    const packet = readPacket(chain.in);
    if (packet.sourceCid === this.guestCid) this.connections.hear(packet, chain.in);
    // Behind all packets that are at hand: the engine hands them out in one go.
    if (this.taken.length === 0) queueMicrotask(() => this.settle());
    this.taken.push(chain);
  }

  private settle(): void {
    const { taken } = this;
    this.taken = [];
    try {
      this.connections.settle();
    } finally {
      for (const chain of taken) chain.use(0);
    }
  }
}

function factsOf(choice: GuestChoice, connections: Connections): DeviceFacts {
  const { maxConnections: _, ...sockets } = choice;
  return {
    log: sockets,
    status: { sockets },
    labels: { guest_cid: String(choice.guestCid) },
    gauges: gaugesOf(connections),
    get watched() {
      return watchedOf(connections);
    },
  };
}

function configOf(guestCid: number): ConfigSpace {
  const space = Buffer.alloc(spec.VSOCK_CONFIG_SIZE);
  space.writeBigUInt64LE(BigInt(guestCid));
  return { byteLength: space.length, read: () => space };
}
