// Copies of changes that the server has acknowledged but not made stable: if it dies, they are made again.
//
// "The server MAY send the reply message before the data has reached permanent storage" (doc/proto.md, NBD_CMD_WRITE). What
// it had in its cache when it died is lost, and a guest that has been told of a finished write won't write it again.
import { ByteRing } from "./byte-ring.ts";
import { NbdRequest } from "./request.ts";
import { Scatter } from "./scatter.ts";

/** What one of them occupies besides its data, roughly. */
const ENTRY_COST = 256;
/** Changes that are made again at a time: those that overlap go one after the other. */
const BATCH = 32;
const NO_DATA: readonly Uint8Array[] = [];

interface Change {
  type: number;
  flags: number;
  offset: bigint;
  byteLength: number;
  data: readonly Uint8Array[];
  /** Of the data, in the ring. */
  ringBytes: number;
  cost: number;
}

export class Unflushed {
  private changes: Change[] = [];
  /** Counts changes from the first one on: that of changes[0]. */
  private first = 0;
  private readonly ring: ByteRing;
  /** What all this occupies. */
  byteLength = 0;

  /** `byteLengthMax`: bytes that are usually enough; more are allocated as it must be. */
  constructor(byteLengthMax: number) {
    this.ring = new ByteRing(byteLengthMax);
  }

  /** All that has been acknowledged until now: what a flush that begins now will make stable. */
  get mark(): number {
    return this.first + this.changes.length;
  }

  add(request: NbdRequest): void {
    const { type, flags, offset, byteLength } = request;
    const change = { type, flags, offset, byteLength, data: NO_DATA, ringBytes: 0, cost: ENTRY_COST };
    if (request.hasPayload) this.copy(request, change);
    this.changes.push(change);
    this.byteLength += change.cost;
  }

  /** A flush that began at this mark has ended well. */
  dropUpTo(mark: number): void {
    const count = mark - this.first;
    if (count <= 0) return;
    for (const { cost, ringBytes } of this.changes.splice(0, count)) {
      this.byteLength -= cost;
      this.ring.shift(ringBytes);
    }
    this.first = mark;
  }

  /** Makes all of it again, in order. Rejects with the first error of the server's. */
  async replay(send: (request: NbdRequest) => void): Promise<void> {
    let batch: NbdRequest[] = [];
    const answered = () => Promise.all(batch.map((request) => request.answered));
    for (const { type, flags, offset, byteLength, data } of this.changes) {
      const request = new NbdRequest(type, flags, offset, byteLength, data);
      if (batch.length === BATCH || batch.some((earlier) => earlier.overlaps(request))) {
        await answered();
        batch = [];
      }
      send(request);
      batch.push(request);
    }
    await answered();
  }

  private copy({ buffers, byteLength }: NbdRequest, change: Change): void {
    const room = this.ring.push(byteLength);
    change.ringBytes = room ? byteLength : 0;
    change.data = room ?? [new Uint8Array(byteLength)];
    change.cost += byteLength;
    const copy = new Scatter(change.data, byteLength);
    for (const buffer of buffers) copy.put(buffer, 0, buffer.length);
  }
}
