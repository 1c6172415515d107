// Where a connection ends beside the guest: a socket, and what the guest has sent and it has no room for yet. Of bytes, or of messages.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import { ByteRing } from "../../streams/byte-ring.ts";
import { firstOf, restOf } from "../../streams/parts.ts";
import type { FarSocket } from "./far-socket.ts";
import { type Word, wordOf } from "./packet.ts";

/** Messages that wait at the most: one without bytes takes no credit. */
const MESSAGES_MAX = 1024;
/** The longest message of the host's that is taken, which is held until the guest has all of it. */
const MESSAGE_BYTES_MAX = 256 << 10;

/** The other side sends no more; or has sent what can't be delivered. */
type Stop = "ended" | "impossible";

export interface End {
  readonly socket: FarSocket;
  /** Whether something of the guest's waits. */
  readonly hasBacklog: boolean;
  /** Whether there may be something for the guest. */
  readonly hasInput: boolean;
  /**
   * Takes what the guest has sent, within its credit, and returns how much of it is the host's now. Undefined: it waits for too much.
   * The parts must stay as they are until settle().
   */
  take(parts: readonly Uint8Array[], byteLength: number, flags: number): number | undefined;
  /** Gives the host what was taken since the last time, as far as it has room, and keeps the rest. Returns how much it has got. */
  settle(): number;
  /** Gives the host what waits, as far as it has room; all of it is gone where nobody is there. Returns how much. */
  flush(): number;
  /** The next data for the guest, `most` bytes of it. `alloc`: what the guest has room for at all. */
  read(room: readonly Uint8Array[], most: number, alloc: number): Word | Stop | undefined;
}

export function endOf(type: number, socket: FarSocket, capacity: number): End {
  return type === spec.VIRTIO_VSOCK_TYPE_STREAM
    ? new StreamEnd(socket, capacity)
    : new MessageEnd(socket, capacity);
}

class StreamEnd implements End {
  private readonly backlog: ByteRing;
  /** What goes to the host in one call, packets and packets. While something waits, all else waits behind it. */
  private gathered: Uint8Array[] = [];
  private gatheredBytes = 0;

  constructor(
    readonly socket: FarSocket,
    capacity: number,
  ) {
    this.backlog = new ByteRing(capacity);
  }

  get hasBacklog(): boolean {
    return this.backlog.length > 0;
  }

  get hasInput(): boolean {
    return this.socket.isReadable;
  }

  take(parts: readonly Uint8Array[], byteLength: number): number {
    const { socket, backlog } = this;
    if (this.hasBacklog || !socket.isWritable || socket.hasGone) {
      backlog.push(parts);
      return socket.hasGone ? this.flush() : 0;
    }
    for (const part of parts) this.gathered.push(part);
    this.gatheredBytes += byteLength;
    return 0;
  }

  settle(): number {
    const { socket, gathered, gatheredBytes } = this;
    if (gatheredBytes === 0) return 0;
    this.gathered = [];
    this.gatheredBytes = 0;
    const written = socket.hasGone ? 0 : socket.write(gathered);
    if (written === gatheredBytes) return written;
    this.backlog.push(restOf(gathered, written));
    return written + this.flush();
  }

  flush(): number {
    const { socket, backlog } = this;
    let taken = 0;
    while (backlog.length > 0 && (socket.isWritable || socket.hasGone)) {
      const part = socket.hasGone ? backlog.length : socket.write(backlog.parts());
      backlog.drop(part);
      taken += part;
    }
    return taken;
  }

  read(room: readonly Uint8Array[], most: number): Word | Stop | undefined {
    const byteLength = this.socket.read(firstOf(room, most));
    if (byteLength === undefined) return undefined;
    return byteLength === 0 ? "ended" : wordOf(spec.VIRTIO_VSOCK_OP_RW, byteLength);
  }
}

/**
 * Each message goes to the host at once, when its last packet has come (5.10.6.7.1). Sockets of the host have no records beyond
 * messages, so MSG_EOR ends here.
 */
class MessageEnd implements End {
  private readonly backlog: ByteRing;
  /** Of whole messages that wait, and of one whose end has not come. */
  private readonly lengths: number[] = [];
  private growing = 0;
  /** What the guest has not got yet of a message that was too long for its credit or its buffers. */
  private rest: Uint8Array | undefined;

  constructor(
    readonly socket: FarSocket,
    capacity: number,
  ) {
    this.backlog = new ByteRing(capacity);
  }

  get hasBacklog(): boolean {
    return this.lengths.length > 0;
  }

  get hasInput(): boolean {
    return this.rest !== undefined || this.socket.isReadable;
  }

  take(parts: readonly Uint8Array[], byteLength: number, flags: number): number | undefined {
    const { socket, backlog } = this;
    const isWhole = (flags & spec.VIRTIO_VSOCK_SEQ_EOM) !== 0;
    const isNext = isWhole && this.growing === 0 && !this.hasBacklog && socket.isWritable;
    if (isNext && !socket.hasGone && this.send(parts)) return byteLength;
    backlog.push(parts);
    this.growing += byteLength;
    if (isWhole) {
      if (this.lengths.length === MESSAGES_MAX) return undefined;
      this.lengths.push(this.growing);
      this.growing = 0;
    }
    return this.flush();
  }

  /** Each message has gone by itself. */
  settle(): number {
    return 0;
  }

  flush(): number {
    const { socket, backlog, lengths } = this;
    let taken = 0;
    while (
      lengths.length > 0 &&
      (socket.hasGone || (socket.isWritable && this.send(backlog.parts(lengths[0]))))
    ) {
      const length = lengths.shift()!;
      backlog.drop(length);
      taken += length;
    }
    return taken;
  }

  read(room: readonly Uint8Array[], most: number, alloc: number): Word | Stop | undefined {
    if (this.rest) return this.readRest(this.rest, room, most);
    const { socket } = this;
    const byteLength = socket.messageLength();
    if (byteLength === undefined) return undefined;
    if (byteLength === 0 && socket.hasEnded) return "ended";
    if (byteLength > Math.min(MESSAGE_BYTES_MAX, alloc)) return "impossible";
    if (byteLength <= most) {
      socket.read(firstOf(room, byteLength));
      return wordOf(spec.VIRTIO_VSOCK_OP_RW, byteLength, spec.VIRTIO_VSOCK_SEQ_EOM);
    }
    const message = Buffer.allocUnsafeSlow(byteLength);
    socket.read([message]);
    return this.readRest(message, room, most);
  }

  private readRest(rest: Uint8Array, room: readonly Uint8Array[], most: number): Word {
    const byteLength = Math.min(rest.length, most);
    let at = 0;
    for (const part of firstOf(room, byteLength)) {
      part.set(rest.subarray(at, at + part.length));
      at += part.length;
    }
    this.rest = byteLength < rest.length ? rest.subarray(byteLength) : undefined;
    return wordOf(spec.VIRTIO_VSOCK_OP_RW, byteLength, this.rest ? 0 : spec.VIRTIO_VSOCK_SEQ_EOM);
  }

  /** The whole message, or nothing of it. */
  private send(parts: readonly Uint8Array[]): boolean {
    this.socket.write(parts);
    return this.socket.isWritable;
  }
}
