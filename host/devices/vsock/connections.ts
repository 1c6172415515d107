// All connections of a guest, by their ports: who gets which packet, how many there may be, and what becomes of them together.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import type { SocketKind } from "../../linux/unix-socket.ts";
import type { ChainReader } from "../device.ts";
import { Connection, type Exchange } from "./connection.ts";
import type { End } from "./end.ts";
import type { Answered, Caller } from "./far-socket.ts";
import type { HostEnd } from "./host-end.ts";
import type { Mail } from "./mail.ts";
import { type Address, isSame, nameOf, type Packet } from "./packet.ts";
import type { Patience } from "./patience.ts";

/** Ports of callers of the host's: one after the other, so that it takes long until one comes again. */
const OWN_PORT_MIN = 0x40000000;
const OWN_PORT_MAX = 0x7fffffff;

const TYPE_OF: Readonly<Record<SocketKind, number>> = {
  stream: spec.VIRTIO_VSOCK_TYPE_STREAM,
  seqpacket: spec.VIRTIO_VSOCK_TYPE_SEQPACKET,
};

/** How somebody is called whom the guest's packet names. The result ends the wait. */
export type Call = (packet: Packet, kind: SocketKind, answered: Answered) => () => void;

export class Connections implements Exchange {
  private readonly byName = new Map<string, Connection>();
  /** The last that was found: packets seldom come alone. */
  private recent: Connection | undefined;
  private readonly unsettledOnes = new Set<Connection>();
  /** Ends a guest's call that waits for the host. */
  private readonly calls = new Map<Connection, () => void>();
  private ownPort = OWN_PORT_MIN;
  /** Of siblings, which must leave room for the host's. */
  private readonly fromSiblings = new Set<Connection>();
  /** Whether a front-end is there, and so perhaps a guest. */
  isServed = false;
  /** Whether the driver knows messages. */
  hasMessages = false;
  /** Since the start. */
  begun = 0;
  refused = 0;

  constructor(
    readonly patience: Patience,
    private readonly most: number,
    private readonly mail: Mail,
    private readonly host: () => HostEnd,
    /** Undefined: the guest can reach nobody there. */
    private readonly callOf: (cid: number) => Call | undefined,
  ) {}

  get all(): Iterable<Connection> {
    return this.byName.values();
  }

  /** Whether there is room for one more. */
  admit(): boolean {
    const hasRoom = this.byName.size + this.host().othersCount < this.most;
    if (!hasRoom) this.refused++;
    return hasRoom;
  }

  /** A caller of the host's wants this port of the guest's. */
  call(guestPort: number, caller: Caller, kind: SocketKind): void {
    if (kind === "seqpacket" && !this.hasMessages) {
      caller.socket.close();
      return;
    }
    const address = { cid: spec.VSOCK_CID_HOST, guestPort, type: TYPE_OF[kind] };
    this.keep(new Connection({ ...address, port: this.nextPort(address) }, this, caller));
  }

  /** A sibling wants one, from a port of its own. False: it is refused. */
  callFromSibling(from: Omit<Address, "type">, kind: SocketKind, caller: Caller): boolean {
    const address = { ...from, type: TYPE_OF[kind] };
    // The sibling may have left a connection between the same ports, of which this guest has not heard the end yet.
    const isKnown = this.kindOf(address.type) !== undefined && !this.byName.has(nameOf(address));
    if (!this.isServed || !isKnown) return false;
    if (this.fromSiblings.size >= Math.ceil(this.most / 2)) {
      this.refused++;
      return false;
    }
    if (!this.admit()) return false;
    const connection = new Connection(address, this, caller);
    this.fromSiblings.add(connection);
    this.keep(connection);
    return true;
  }

  /** A packet of the guest's. RST is never answered with RST. */
  hear(packet: Packet, data: ChainReader): void {
    const { op, type } = packet;
    const isKnown = this.kindOf(type) !== undefined;
    const connection = isKnown ? this.find(packet) : undefined;
    if (op === spec.VIRTIO_VSOCK_OP_REQUEST && isKnown) {
      // The guest has forgotten the one before.
      if (connection) this.forsake(connection);
      this.mail.forgive(packet);
      this.begin(packet);
    } else if (connection) connection.hear(packet, data);
    else if (op !== spec.VIRTIO_VSOCK_OP_RST) this.mail.refuse(packet);
  }

  /** After a pause, or in a new life of the guest, who is still there? Those who have forgotten a connection say so. */
  ask(): void {
    for (const connection of this.all) connection.ask();
  }

  /** Nobody is there any more. */
  endAll(): void {
    for (const connection of [...this.all]) this.forsake(connection);
    this.mail.clear();
  }

  /** What guests have sent in this turn goes to the host: their memory is theirs again then. */
  settle(): void {
    for (const connection of this.unsettledOnes) connection.settle();
    this.unsettledOnes.clear();
  }

  unsettled(connection: Connection): void {
    this.unsettledOnes.add(connection);
  }

  announce(connection: Connection): void {
    this.mail.announce(connection);
  }

  ended(connection: Connection, isTold: boolean): void {
    this.byName.delete(nameOf(connection));
    this.fromSiblings.delete(connection);
    if (this.recent === connection) this.recent = undefined;
    this.calls.get(connection)?.();
    this.calls.delete(connection);
    this.mail.withdraw(connection);
    if (!isTold) this.mail.refuse(connection);
  }

  linger(end: End): void {
    this.host().linger(end);
  }

  private find(address: Address): Connection | undefined {
    const { recent } = this;
    if (recent && isSame(recent, address)) return recent;
    const found = this.byName.get(nameOf(address));
    if (found) this.recent = found;
    return found;
  }

  private kindOf(type: number): SocketKind | undefined {
    if (type === spec.VIRTIO_VSOCK_TYPE_STREAM) return "stream";
    return type === spec.VIRTIO_VSOCK_TYPE_SEQPACKET && this.hasMessages ? "seqpacket" : undefined;
  }

  private begin(packet: Packet): void {
    const call = this.callOf(packet.cid);
    if (call === undefined || !this.admit()) {
      this.mail.refuse(packet);
      return;
    }
    const connection = new Connection(packet, this);
    this.keep(connection);
    connection.credit.hear(packet);
    const stop = call(packet, this.kindOf(packet.type)!, (socket) => {
      this.calls.delete(connection);
      if (socket === undefined) connection.end("untold");
      else connection.answer(socket);
    });
    if (connection.isRinging) this.calls.set(connection, stop);
  }

  /** The guest knows nothing of it any more. What it has sent before reaches the host; a sibling hears of a break. */
  private forsake(connection: Connection): void {
    connection.end("told", connection.isToSibling);
  }

  private keep(connection: Connection): void {
    this.begun++;
    this.byName.set(nameOf(connection), connection);
  }

  private nextPort(address: Omit<Address, "port">): number {
    for (;;) {
      const port = this.ownPort;
      this.ownPort = port === OWN_PORT_MAX ? OWN_PORT_MIN : port + 1;
      if (!this.byName.has(nameOf({ ...address, port }))) return port;
    }
  }
}
