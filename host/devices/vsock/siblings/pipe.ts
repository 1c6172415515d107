// Two sockets that are connected, in memory: what one guest says to another goes through here, and takes no descriptor. Either end is
// as a socket of the host's is, with its edges told in a turn of their own: a device is not called while it is at work.
import type { SocketKind } from "../../../linux/unix-socket.ts";
import { ByteRing } from "../../../streams/byte-ring.ts";
import { firstOf } from "../../../streams/parts.ts";
import type { FarSocket } from "../far-socket.ts";

/** What waits for the reader, at the most: of bytes, and of messages, of which the longest fits. */
const ROOM: Readonly<Record<SocketKind, number>> = { stream: 64 << 10, seqpacket: 128 << 10 };
const MESSAGES_MAX = 256;

/** The other end of each is the other. */
export function pipe(kind: SocketKind): [FarSocket, FarSocket] {
  const [one, other] = [new PipeEnd(kind), new PipeEnd(kind)];
  one.other = other;
  other.other = one;
  return [one, other];
}

class PipeEnd implements FarSocket {
  readonly isSibling = true;
  other!: PipeEnd;
  isWritable = true;
  wasReset = false;
  onEdge = (): void => {};
  /** What came from the other end; of messages, how long each is. */
  private readonly inbox: ByteRing;
  private readonly lengths: number[] = [];
  private hasEndedWrite = false;
  private hasEndedRead = false;
  private isOpen = true;
  private isEdgeDue = false;

  constructor(private readonly kind: SocketKind) {
    this.inbox = new ByteRing(ROOM[kind]);
  }

  get isReadable(): boolean {
    return !this.isEmpty || this.isCut;
  }

  get hasEnded(): boolean {
    return this.isEmpty && this.isCut;
  }

  get hasGone(): boolean {
    return !this.other.isOpen;
  }

  get isDeaf(): boolean {
    return this.other.hasEndedRead;
  }

  read(places: readonly Uint8Array[]): number | undefined {
    if (this.isEmpty) return this.isCut ? 0 : undefined;
    const waiting = this.kind === "stream" ? this.inbox.length : this.lengths.shift()!;
    const byteLength = Math.min(waiting, lengthOf(places));
    copy(this.inbox.parts(byteLength), places);
    this.inbox.drop(this.kind === "stream" ? byteLength : waiting);
    if (!this.other.isWritable) this.other.hasRoom();
    return byteLength;
  }

  messageLength(): number | undefined {
    if (this.isEmpty) return this.isCut ? 0 : undefined;
    return this.lengths[0];
  }

  /** What goes to whoever reads no more is taken, and lost. */
  write(parts: readonly Uint8Array[]): number {
    const wanted = lengthOf(parts);
    if (this.hasGone) return 0;
    if (this.isDeaf) return wanted;
    const taken = this.other.take(parts, wanted);
    if (taken === undefined || taken < wanted) this.isWritable = false;
    return taken ?? 0;
  }

  endWrite(): void {
    if (this.hasEndedWrite) return;
    this.hasEndedWrite = true;
    this.other.wake();
  }

  endRead(): void {
    if (this.hasEndedRead) return;
    this.hasEndedRead = true;
    this.empty();
    this.other.hasRoom();
  }

  close(isReset = false): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.empty();
    const { other } = this;
    if (isReset && other.isOpen) {
      other.wasReset = true;
      other.empty();
    }
    other.wake();
  }

  private get isEmpty(): boolean {
    return this.kind === "stream" ? this.inbox.length === 0 : this.lengths.length === 0;
  }

  /** No more will come. */
  private get isCut(): boolean {
    return this.other.hasEndedWrite || !this.other.isOpen;
  }

  private empty(): void {
    this.inbox.drop(this.inbox.length);
    this.lengths.length = 0;
  }

  /** As much as there is room for; of a message all, or undefined. */
  private take(parts: readonly Uint8Array[], wanted: number): number | undefined {
    const room = ROOM[this.kind] - this.inbox.length;
    if (this.kind === "seqpacket") {
      if (wanted > room || this.lengths.length === MESSAGES_MAX) return undefined;
      this.lengths.push(wanted);
    }
    const taken = Math.min(wanted, room);
    this.inbox.push(firstOf(parts, taken));
    this.wake();
    return taken;
  }

  private hasRoom(): void {
    this.isWritable = true;
    this.wake();
  }

  private wake(): void {
    if (this.isEdgeDue) return;
    this.isEdgeDue = true;
    setImmediate(() => {
      this.isEdgeDue = false;
      if (this.isOpen) this.onEdge();
    });
  }
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** As far as there are places. */
function copy(parts: readonly Uint8Array[], places: readonly Uint8Array[]): void {
  let next = 0;
  let at = 0;
  for (const part of parts) {
    for (let done = 0; done < part.length; ) {
      const piece = part.subarray(done, done + places[next]!.length - at);
      places[next]!.set(piece, at);
      done += piece.length;
      at += piece.length;
      if (at < places[next]!.length) continue;
      next++;
      at = 0;
    }
  }
}
