// How much either side of a connection may send (virtio 1.4, 5.10.6.3). All counts are free-running, of 32 bits, and wrap around.
import type { Packet, Word } from "./packet.ts";

export class Credit {
  /** What came from the guest, and what of it has gone on to the host side. */
  private received = 0;
  private forwarded = 0;
  /** `forwarded` as the guest knows it. */
  private told = 0;
  private sent = 0;
  /** The guest's own room, in use or not. */
  guestAlloc = 0;
  private guestForwarded = 0;

  /** `alloc`: what the guest may send before the host side has taken it. */
  constructor(private readonly alloc: number) {}

  /** Each packet brings the guest's own counts. */
  hear({ bufAlloc, fwdCnt }: Pick<Packet, "bufAlloc" | "fwdCnt">): void {
    this.guestAlloc = bufAlloc;
    this.guestForwarded = fwdCnt;
  }

  /** What may be sent to the guest now. */
  get free(): number {
    const inFlight = (this.sent - this.guestForwarded) >>> 0;
    return Math.max(0, this.guestAlloc - inFlight);
  }

  send(byteLength: number): void {
    this.sent = (this.sent + byteLength) >>> 0;
  }

  /** What has come from the guest, and waits for the host. */
  get waiting(): number {
    return (this.received - this.forwarded) >>> 0;
  }

  /** What the guest may send. */
  get room(): number {
    return this.alloc - this.waiting;
  }

  receive(byteLength: number): void {
    this.received = (this.received + byteLength) >>> 0;
  }

  forward(byteLength: number): void {
    this.forwarded = (this.forwarded + byteLength) >>> 0;
  }

  /** Whether the guest waits for room, or soon will, and there is some that it does not know of. */
  get isWorthTelling(): boolean {
    const known = this.alloc - ((this.received - this.told) >>> 0);
    return this.told !== this.forwarded && known < this.alloc / 2;
  }

  /** For a header to the guest, which knows then. */
  tell(word: Word): void {
    this.told = this.forwarded;
    word.bufAlloc = this.alloc;
    word.fwdCnt = this.forwarded;
  }
}
