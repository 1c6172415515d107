// One request to the server, from when it is made until it is answered; it may be sent more than once.

import { NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from "./protocol.ts";
import type { Change } from "./unflushed.ts";

const NO_BUFFERS: readonly Uint8Array[] = [];

export class NbdRequest {
  readonly answered: Promise<void>;
  /** Order in which requests were made. */
  number = 0;
  /** On the connection that it was last sent on. */
  cookie = 0;
  /** When it was made, by performance.now(). */
  readonly madeAt = performance.now();
  /** On how many connections it was sent. */
  sends = 0;
  /** What is sent of a write: a copy, where there is one. */
  payload: readonly Uint8Array[];
  /** The copy that is kept of it until it is stable. */
  change: Change | undefined;
  /** What was unflushed when a flush was made: see unflushed.ts. */
  mark = 0;
  /** The answer, while the socket still reads the payload. */
  early: { error: Error | undefined } | undefined;
  isSent = false;
  private resolve!: () => void;
  private reject!: (error: Error) => void;

  constructor(
    /** NBD_CMD_*. */
    readonly type: number,
    /** NBD_CMD_FLAG_*. */
    readonly flags: number,
    readonly offset: bigint,
    readonly byteLength: number,
    /** What is written, or where what is read goes; `byteLength` bytes in all. */
    readonly buffers = NO_BUFFERS,
  ) {
    this.payload = buffers;
    this.answered = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  get isRead(): boolean {
    return this.type === NBD_CMD_READ;
  }

  get hasPayload(): boolean {
    return this.type === NBD_CMD_WRITE;
  }

  /** Whether it changes what the export holds. */
  get isChange(): boolean {
    const { type } = this;
    return type === NBD_CMD_WRITE || type === NBD_CMD_TRIM || type === NBD_CMD_WRITE_ZEROES;
  }

  overlaps(other: NbdRequest): boolean {
    return (
      this.offset < other.offset + BigInt(other.byteLength) &&
      other.offset < this.offset + BigInt(this.byteLength)
    );
  }

  settle(error: Error | undefined): void {
    if (error) this.reject(error);
    else this.resolve();
  }
}
