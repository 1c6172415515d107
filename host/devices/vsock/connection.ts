// One connection between a port of the guest and a socket of the host: what either side has sent, has room for, and has ended.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import type { ChainReader } from "../device.ts";
import { Credit } from "./credit.ts";
import { type End, endOf } from "./end.ts";
import type { Caller, FarSocket } from "./far-socket.ts";
import type { Speaker } from "./mail.ts";
import { type Address, type Packet, type Word, wordOf } from "./packet.ts";
import type { Patience } from "./patience.ts";

/** What the guest may send before the host side has taken it: so much memory a connection takes at the most. */
export const BUFFER_BYTES = 256 << 10;
/** The same of messages, of which none is longer then: a Unix socket takes up to 208 KiB in one. */
export const MESSAGE_BUFFER_BYTES = 128 << 10;

const RECEIVE = 1 << spec.VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE;
const SEND = 1 << spec.VIRTIO_VSOCK_SHUTDOWN_F_SEND;
const BOTH = RECEIVE | SEND;

/** Who has asked for the connection and waits, or that it is there. */
type State = "host calls" | "guest calls" | "open" | "over";

/** What a connection asks of its device. */
export interface Exchange {
  readonly patience: Patience;
  /** It may have something to say. */
  announce(connection: Connection): void;
  /** It is over. Its guest is told so, unless it has said so itself. */
  ended(connection: Connection, isTold: boolean): void;
  /** It has data of the guest's in place, until it is told to settle(). */
  unsettled(connection: Connection): void;
  /** The host side gets what is left, if it takes it. */
  linger(end: End): void;
}

export class Connection implements Speaker {
  readonly cid: number;
  readonly port: number;
  readonly guestPort: number;
  readonly type: number;
  readonly credit: Credit;
  /** Of the guest's, and to it. */
  bytesOut = 0;
  bytesIn = 0;
  private state: State;
  private host: End | undefined;
  private readonly alloc: number;
  /** Operations to be said, by bit. */
  private due = 0;
  /** What the guest has said that it will not do any more, and what it was told, or is to be told, of us. */
  private guestShutdown = 0;
  private ownShutdown = 0;
  private isCreditAsked = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    { cid, port, guestPort, type }: Address,
    private readonly exchange: Exchange,
    /** Left out: the guest has called, and somebody is to answer(). */
    private readonly caller?: Caller,
  ) {
    this.cid = cid;
    this.port = port;
    this.guestPort = guestPort;
    this.type = type;
    this.alloc = type === spec.VIRTIO_VSOCK_TYPE_STREAM ? BUFFER_BYTES : MESSAGE_BUFFER_BYTES;
    this.credit = new Credit(this.alloc);
    this.state = caller ? "host calls" : "guest calls";
    this.wait(exchange.patience.connectMs);
    if (caller) {
      this.adopt(caller.socket);
      this.say(spec.VIRTIO_VSOCK_OP_REQUEST);
    }
  }

  /** Whether nobody has answered the guest yet. */
  get isRinging(): boolean {
    return this.state === "guest calls";
  }

  get isOver(): boolean {
    return this.state === "over";
  }

  /** Whether another guest is at the other end. */
  get isToSibling(): boolean {
    return this.host?.socket.isSibling === true;
  }

  /** For operators. */
  describe(): string {
    if (this.state !== "open") return this.state;
    const ends = [this.guestShutdown && "guest is ending", this.ownShutdown && "host is ending"];
    return ends.filter(Boolean).join(", ") || "open";
  }

  /** The guest's call has found somebody. */
  answer(socket: FarSocket): void {
    this.adopt(socket);
    this.open();
    this.say(spec.VIRTIO_VSOCK_OP_RESPONSE);
  }

  /** A packet of the guest's, with its data. */
  hear(packet: Packet, data: ChainReader): void {
    const { op, flags } = packet;
    this.credit.hear(packet);
    this.isCreditAsked = false;
    if (op !== spec.VIRTIO_VSOCK_OP_RW) this.settle();
    if (op === spec.VIRTIO_VSOCK_OP_RST) this.end("told");
    else if (this.state === "open") this.hearOpen(op, flags, data, packet.byteLength);
    else if (this.state === "host calls" && op === spec.VIRTIO_VSOCK_OP_RESPONSE) this.accept();
    else this.end("untold");
    if (!this.isOver) this.exchange.announce(this);
  }

  /** The host gets what the guest has sent in this turn. */
  settle(): void {
    if (this.host && !this.isOver) this.forward(this.host.settle());
  }

  get hasWord(): boolean {
    return this.due !== 0 || (this.canRead && (this.credit.free > 0 || !this.isCreditAsked));
  }

  speak(room: readonly Uint8Array[], roomBytes: number): Word | undefined {
    const word = this.nextWord(room, roomBytes);
    if (word === undefined) return undefined;
    // Each packet has the counts.
    this.due &= ~bit(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    this.credit.tell(word);
    return word;
  }

  /** Is the guest there still? It answers, or has forgotten the connection and says so. */
  ask(): void {
    if (this.state === "open") this.say(spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST);
  }

  /** What the guest has sent is the host's; nobody hears any more. "untold": the guest is told that it is over. */
  end(how: "told" | "untold", isAbort = true): void {
    if (this.isOver) return;
    this.host?.settle();
    this.state = "over";
    this.due = 0;
    clearTimeout(this.timer);
    const { host } = this;
    if (host) {
      host.socket.onEdge = () => {};
      if (isAbort || !host.hasBacklog) host.socket.close(isAbort);
      else this.exchange.linger(host);
    }
    this.exchange.ended(this, how === "told");
  }

  private hearOpen(op: number, flags: number, data: ChainReader, byteLength: number): void {
    if (op === spec.VIRTIO_VSOCK_OP_RW) this.take(data, byteLength, flags);
    else if (op === spec.VIRTIO_VSOCK_OP_SHUTDOWN) this.hearShutdown(flags & BOTH);
    else if (op === spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST) this.say(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    else if (op !== spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE) this.end("untold");
  }

  /** The host has called, and the guest has accepted. */
  private accept(): void {
    this.open();
    this.caller!.accepted(this.port);
  }

  private open(): void {
    this.state = "open";
    clearTimeout(this.timer);
  }

  private adopt(socket: FarSocket): void {
    this.host = endOf(this.type, socket, this.alloc);
    socket.onEdge = () => this.look();
  }

  /** The host side has sent something, has room, or has gone. */
  private look(): void {
    const { hasGone, wasReset, isDeaf } = this.host!.socket;
    if (wasReset || (hasGone && this.state === "host calls")) this.end("untold");
    if (this.state !== "open") return;
    if (isDeaf) this.setShutdown(RECEIVE);
    this.flush();
    const isHeard = (this.guestShutdown & RECEIVE) === 0;
    // What it has sent before it went comes first; its end is found behind that.
    if (hasGone && ((this.ownShutdown & SEND) !== 0 || !isHeard)) this.tellShutdown(BOTH);
    this.exchange.announce(this);
  }

  /** Straight to the host side, as far as it has room, in the order in which it came. */
  private take(data: ChainReader, byteLength: number, flags: number): void {
    const isAllowed = (this.guestShutdown & SEND) === 0 && byteLength <= this.credit.room;
    const parts = isAllowed ? data.views(byteLength) : undefined;
    const taken = parts && this.host!.take(parts, byteLength, flags);
    if (taken === undefined) {
      this.end("untold");
      return;
    }
    this.credit.receive(byteLength);
    this.bytesOut += byteLength;
    this.exchange.unsettled(this);
    this.forward(taken);
  }

  private flush(): void {
    const host = this.host!;
    this.forward(host.flush());
    if (!host.hasBacklog && (this.guestShutdown & SEND) !== 0) host.socket.endWrite();
  }

  private forward(byteLength: number): void {
    if (byteLength === 0) return;
    this.credit.forward(byteLength);
    if (this.credit.isWorthTelling) this.say(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  }

  /** A clean end is answered with RST (5.10.6.6), at once: the ports are free then, whoever reads slowly on the host. */
  private hearShutdown(flags: number): void {
    this.guestShutdown |= flags;
    if (this.guestShutdown === BOTH) {
      this.end("untold", false);
      return;
    }
    this.flush();
    if ((this.guestShutdown & RECEIVE) !== 0) this.host!.socket.endRead();
  }

  private nextWord(room: readonly Uint8Array[], roomBytes: number): Word | undefined {
    const greeting = this.takeDue(spec.VIRTIO_VSOCK_OP_REQUEST, spec.VIRTIO_VSOCK_OP_RESPONSE);
    if (greeting) return wordOf(greeting);
    const data = this.canRead ? this.nextData(room, roomBytes) : undefined;
    if (data) return data;
    if (this.takeDue(spec.VIRTIO_VSOCK_OP_SHUTDOWN)) {
      if (this.ownShutdown === BOTH) this.wait(this.exchange.patience.closeMs);
      return wordOf(spec.VIRTIO_VSOCK_OP_SHUTDOWN, 0, this.ownShutdown);
    }
    const rest = this.takeDue(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE, spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    return rest === undefined ? undefined : wordOf(rest);
  }

  private get canRead(): boolean {
    const isOver = (this.ownShutdown & SEND) !== 0 || (this.guestShutdown & RECEIVE) !== 0;
    return this.state === "open" && !isOver && this.host!.hasInput;
  }

  private nextData(room: readonly Uint8Array[], roomBytes: number): Word | undefined {
    const most = Math.min(this.credit.free, roomBytes);
    if (most === 0) {
      if (!this.isCreditAsked) this.due |= bit(spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST);
      this.isCreditAsked = true;
      return undefined;
    }
    const word = this.host!.read(room, most, this.credit.guestAlloc);
    if (word === "ended") this.setShutdown(this.host!.socket.hasGone ? BOTH : SEND);
    else if (word === "impossible") this.end("untold");
    else if (word) {
      this.credit.send(word.byteLength);
      this.bytesIn += word.byteLength;
      return word;
    }
    return undefined;
  }

  private tellShutdown(flags: number): void {
    this.setShutdown(flags);
    this.exchange.announce(this);
  }

  private setShutdown(flags: number): void {
    if ((this.ownShutdown | flags) === this.ownShutdown) return;
    this.ownShutdown |= flags;
    this.due |= bit(spec.VIRTIO_VSOCK_OP_SHUTDOWN);
  }

  private say(op: number): void {
    this.due |= bit(op);
    this.exchange.announce(this);
  }

  /** The first of these that is due, which is said with that. */
  private takeDue(op: number, other = op): number | undefined {
    const first = (this.due & bit(op)) !== 0 ? op : other;
    if ((this.due & bit(first)) === 0) return undefined;
    this.due &= ~bit(first);
    return first;
  }

  private wait(timeMs: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.end("untold"), timeMs);
  }
}

function bit(op: number): number {
  return 1 << op;
}
