// Copies of changes that the server has not made stable: if it dies, those that it had acknowledged are made again.
//
// "The server MAY send the reply message before the data has reached permanent storage" (doc/proto.md, NBD_CMD_WRITE). What
// it had in its cache when it died is lost, and a guest that has been told of a finished write won't write it again.
//
// What is sent is the copy itself: the guest may change its buffer meanwhile, and the server must never get two versions.
import { ByteRing, type RingPiece } from "./byte-ring.ts";
import { NbdRequest } from "./request.ts";
import { Scatter } from "./scatter.ts";

/** What one of them occupies besides its data, roughly. */
const ENTRY_COST = 256;
/** Changes that are made again at a time: those that overlap go one after the other. */
const BATCH = 32;
const NO_DATA: readonly Uint8Array[] = [];

export interface Change {
  type: number;
  flags: number;
  offset: bigint;
  byteLength: number;
  data: readonly Uint8Array[];
  /** Where the data is, if there was room in the ring. */
  piece: RingPiece | undefined;
  cost: number;
  /** The how manieth acknowledgement was its own; 0 before. */
  acknowledgement: number;
}

export class Unflushed {
  /** In the order in which they were sent first. */
  private readonly changes = new Set<Change>();
  private readonly ring: ByteRing;
  /** What all this occupies. */
  byteLength = 0;
  /** What of it a flush would give back. */
  acknowledgedLength = 0;
  /** All that has been acknowledged until now: what a flush that begins now will make stable. */
  mark = 0;

  /** `byteLengthMax`: bytes that are usually enough; more are allocated as it must be. */
  constructor(byteLengthMax: number) {
    this.ring = new ByteRing(byteLengthMax);
  }

  /** Before the request is sent first. Its payload is the copy from now on. */
  begin(request: NbdRequest): void {
    const { type, flags, offset, byteLength } = request;
    const piece = request.hasPayload ? this.ring.push(byteLength) : undefined;
    const data = request.hasPayload ? (piece?.parts ?? [new Uint8Array(byteLength)]) : NO_DATA;
    const cost = ENTRY_COST + (request.hasPayload ? byteLength : 0);
    const change = { type, flags, offset, byteLength, data, piece, cost, acknowledgement: 0 };
    if (request.hasPayload) {
      const copy = new Scatter(data, byteLength);
      for (const buffer of request.buffers) copy.put(buffer, 0, buffer.length);
      request.payload = data;
    }
    request.change = change;
    this.changes.add(change);
    this.byteLength += cost;
  }

  acknowledge(change: Change): void {
    change.acknowledgement = ++this.mark;
    this.acknowledgedLength += change.cost;
  }

  /** It was stable, or is not to be made again. */
  drop(change: Change): void {
    if (!this.changes.delete(change)) return;
    this.byteLength -= change.cost;
    if (change.acknowledgement > 0) this.acknowledgedLength -= change.cost;
    if (change.piece) this.ring.release(change.piece);
  }

  /** A flush that began at this mark has ended well. */
  dropUpTo(mark: number): void {
    for (const change of this.changes) {
      if (change.acknowledgement > 0 && change.acknowledgement <= mark) this.drop(change);
    }
  }

  /** Makes all of it again that was acknowledged, in order. Rejects with the first error of the server's. */
  async replay(send: (request: NbdRequest) => void): Promise<void> {
    let batch: NbdRequest[] = [];
    const answered = () => Promise.all(batch.map((request) => request.answered));
    for (const { type, flags, offset, byteLength, data, acknowledgement } of [...this.changes]) {
      if (acknowledgement === 0) continue;
      const request = new NbdRequest(type, flags, offset, byteLength, data);
      if (batch.length === BATCH || batch.some((earlier) => earlier.overlaps(request))) {
        await answered();
        batch = [];
      }
      batch.push(request);
      send(request);
    }
    await answered();
  }
}
