// The transmission phase on one connection (doc/proto.md, "Transmission"): requests out, many at a time; replies in, in any order.
import { ConnectionError, requestError } from "./errors.ts";
import {
  NBD_CMD_DISC,
  NBD_ESHUTDOWN,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  REQUEST_SIZE,
  SIMPLE_REPLY_SIZE,
} from "./protocol.ts";
import type { NbdRequest } from "./request.ts";
import { Scatter } from "./scatter.ts";
import { Vigil, type Watched } from "./vigil.ts";
import type { Receiver, Wire } from "./wire.ts";

/** Replies are taken from the socket so many bytes at a time: those to about sixteen reads of 4 KiB. */
const CHUNK_SIZE = 64 << 10;
/** From here on a payload is read straight to where it belongs: a system call more costs less than the copy. */
const IN_PLACE_MIN = 16 << 10;
/** The upper half of our cookies, to know them by. */
const COOKIE_HIGH = 0x76726e67;

/** Told at the end of the connection, with what was never answered, in the order in which it was made. */
export type OnBroken = (reason: ConnectionError, unanswered: NbdRequest[]) => void;

export class Transmission implements Receiver, Watched {
  private readonly chunk = new Uint8Array(CHUNK_SIZE);
  /** After a payload that was read in place there is probably another: no byte of it should be read with the header. */
  private readonly headerAlone = this.chunk.subarray(0, SIMPLE_REPLY_SIZE);
  private wasInPlace = false;
  private readonly header = Buffer.alloc(SIMPLE_REPLY_SIZE);
  private headerLength = 0;
  private readonly unanswered = new Map<number, NbdRequest>();
  private lastCookie = 0;
  /** The read whose payload is coming. */
  private reading: NbdRequest | undefined;
  private payload: Scatter | undefined;
  private inPlace: Uint8Array | undefined;
  private outgoing: NbdRequest[] = [];
  private isOver = false;
  /** Pieces that came from the server. */
  activity = 0;
  private readonly vigil: Vigil;

  constructor(
    private readonly wire: Wire,
    /** Told of each answer, before its request settles. */
    private readonly onAnswer: (request: NbdRequest, error: Error | undefined) => void,
    private readonly onBroken: OnBroken,
    silenceMs: number,
  ) {
    this.vigil = new Vigil(this, silenceMs);
    wire.deliverTo(this);
  }

  get inFlight(): number {
    return this.unanswered.size;
  }

  get oldestCookie(): number | undefined {
    return this.unanswered.keys().next().value;
  }

  /** Goes out at the end of this turn, together with others. */
  send(request: NbdRequest): void {
    this.lastCookie = (this.lastCookie + 1) >>> 0;
    request.cookie = this.lastCookie;
    request.sends++;
    request.isSent = false;
    request.early = undefined;
    this.unanswered.set(request.cookie, request);
    this.vigil.begin();
    if (this.outgoing.push(request) === 1) process.nextTick(() => this.flush());
  }

  /** "The client MAY issue a soft disconnect at any time, but SHOULD wait until there are no inflight requests first." */
  disconnect(): void {
    this.isOver = true;
    this.vigil.end();
    this.sayGoodbye();
    this.wire.hangUp();
  }

  /** Ends at once. `onBroken` isn't told; what was unanswered is returned. */
  abandon(): NbdRequest[] {
    if (this.isOver) return [];
    this.isOver = true;
    this.vigil.end();
    this.wire.destroy();
    const unanswered = [...this.unanswered.values()];
    this.unanswered.clear();
    return unanswered;
  }

  buffer(): Uint8Array {
    const { payload } = this;
    this.inPlace = undefined;
    if (payload === undefined) return this.wasInPlace ? this.headerAlone : this.chunk;
    const next = payload.next();
    if (next.length < IN_PLACE_MIN) return this.chunk;
    this.inPlace = next;
    return next;
  }

  received(byteLength: number, buffer: Uint8Array): void {
    if (this.isOver) return;
    this.activity++;
    try {
      if (buffer === this.inPlace) this.tookInPlace(byteLength);
      else this.parse(buffer, byteLength);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      this.ended(error);
    }
  }

  ended(reason: ConnectionError): void {
    if (this.isOver) return;
    this.onBroken(reason, this.abandon());
  }

  private flush(): void {
    const { outgoing } = this;
    if (this.isOver) return;
    this.outgoing = [];
    const headers = Buffer.allocUnsafe(outgoing.length * REQUEST_SIZE);
    const chunks: Uint8Array[] = [];
    const payloads: NbdRequest[] = [];
    let [start, end] = [0, 0];
    for (const request of outgoing) {
      writeHeader(headers, end, request);
      end += REQUEST_SIZE;
      if (!request.hasPayload) continue;
      chunks.push(headers.subarray(start, end), ...request.payload);
      payloads.push(request);
      start = end;
    }
    if (start < end) chunks.push(headers.subarray(start, end));
    this.wire.write(chunks, payloads.length > 0 ? () => this.sent(payloads) : undefined);
  }

  /** The socket has read the payloads: whoever has been answered meanwhile may hear of it. */
  private sent(payloads: readonly NbdRequest[]): void {
    for (const request of payloads) {
      request.isSent = true;
      if (request.early) this.settle(request, request.early.error);
    }
  }

  private tookInPlace(byteLength: number): void {
    this.payload!.advance(byteLength);
    if (this.payload!.remaining === 0) this.finishRead();
  }

  private parse(buffer: Uint8Array, byteLength: number): void {
    for (let position = 0; position < byteLength; ) {
      if (this.payload) {
        position += this.payload.put(buffer, position, byteLength);
        if (this.payload.remaining === 0) this.finishRead();
      } else {
        const count = Math.min(SIMPLE_REPLY_SIZE - this.headerLength, byteLength - position);
        this.header.set(buffer.subarray(position, position + count), this.headerLength);
        this.headerLength += count;
        position += count;
        if (this.headerLength === SIMPLE_REPLY_SIZE) this.takeReply();
      }
    }
  }

  private takeReply(): void {
    const { header } = this;
    this.headerLength = 0;
    if (header.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC)
      throw new ConnectionError("the server's reply isn't NBD");
    const value = header.readUInt32BE(4);
    const isOurs = header.readUInt32BE(8) === COOKIE_HIGH;
    const request = isOurs ? this.unanswered.get(header.readUInt32BE(12)) : undefined;
    if (request === undefined || request.early)
      throw new ConnectionError("the server answered what wasn't asked");
    if (value === NBD_ESHUTDOWN) {
      // "It MUST initiate a soft disconnect." The request is for the server's successor.
      this.sayGoodbye();
      throw new ConnectionError("the server is shutting down");
    }
    if (request.isRead && value === 0) {
      this.reading = request;
      this.payload = new Scatter(request.buffers, request.byteLength);
      this.wasInPlace = request.byteLength >= IN_PLACE_MIN;
    } else {
      this.answer(request, value === 0 ? undefined : requestError(value, "says the NBD server"));
    }
  }

  private finishRead(): void {
    const request = this.reading!;
    this.reading = undefined;
    this.payload = undefined;
    this.settle(request, undefined);
  }

  private answer(request: NbdRequest, error: Error | undefined): void {
    // Its memory may be gone once it has settled.
    if (request.hasPayload && !request.isSent) request.early = { error };
    else this.settle(request, error);
  }

  private sayGoodbye(): void {
    const disc = Buffer.alloc(REQUEST_SIZE);
    disc.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
    disc.writeUInt16BE(NBD_CMD_DISC, 6);
    this.wire.write([disc]);
  }

  private settle(request: NbdRequest, error: Error | undefined): void {
    this.unanswered.delete(request.cookie);
    this.onAnswer(request, error);
    request.settle(error);
  }
}

function writeHeader(bytes: Buffer, at: number, request: NbdRequest): void {
  bytes.writeUInt32BE(NBD_REQUEST_MAGIC, at);
  bytes.writeUInt16BE(request.flags, at + 4);
  bytes.writeUInt16BE(request.type, at + 6);
  bytes.writeUInt32BE(COOKIE_HIGH, at + 8);
  bytes.writeUInt32BE(request.cookie, at + 12);
  bytes.writeBigUInt64BE(request.offset, at + 16);
  bytes.writeUInt32BE(request.byteLength, at + 24);
}
