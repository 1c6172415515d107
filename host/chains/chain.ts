// A descriptor chain from the turn that took it until it is given back, once: what the engine keeps of it, and what its device holds.
import { CHAIN_PARKED } from "../../assembly/abi/chain.ts";
import { ECANCELED } from "../../assembly/spec/io-uring.ts";
import { type Chain, type ChainReader, type ChainWriter, QueueStopped } from "../devices/device.ts";
import { ChainCursor } from "./cursor.ts";
import { BufferReader } from "./reader.ts";
import { BufferWriter } from "./writer.ts";

/** The most that a completion's result can say. */
const RESULT_MAX = 0x7fffffff;

export interface ChainBuffers {
  readable: readonly Uint8Array[];
  writable: readonly Uint8Array[];
}

/** What the engine keeps. It must not refer to the DeviceChain, whose loss could not be noticed then. */
export class HeldChain {
  in: ChainCursor;
  out: ChainCursor;
  private state: "held" | "withdrawn" | "given back" = "held";
  private isShared = false;

  /** `answer` gets a CQE's result, once. */
  constructor(
    private readonly buffers: ChainBuffers,
    private readonly mayPark: () => boolean,
    private readonly answer: (held: HeldChain, result: number) => void,
  ) {
    this.in = new ChainCursor(buffers.readable);
    this.out = new ChainCursor(buffers.writable);
  }

  get isHeld(): boolean {
    return this.state === "held";
  }

  /** From the beginning again, for whoever answers in place of a device that failed half-way. */
  rewind(): void {
    this.closeCursors();
    this.in = new ChainCursor(this.buffers.readable);
    this.out = new ChainCursor(this.buffers.writable);
  }

  use(byteLength: number): void {
    const room = this.out.passed + this.out.left;
    if (!Number.isSafeInteger(byteLength) || byteLength < 0 || byteLength > room) {
      throw new RangeError(`a chain with room for ${room} bytes can't be used with ${byteLength}`);
    }
    this.giveBack(Math.min(byteLength, RESULT_MAX));
  }

  park(): void {
    if (this.isHeld && !this.mayPark()) throw new Error("a chain can be parked only while its ring stops");
    this.giveBack(CHAIN_PARKED);
  }

  /** `result`: a negated errno. */
  fail(result: number): void {
    this.giveBack(result);
  }

  /**
   * The core wants it back: the chain stays recorded for a successor. Not while its device may be at work on guest memory that
   * it was given in place: then the ring waits for the device.
   */
  withdraw(): void {
    if (!this.isHeld || this.isShared || this.in.isShared || this.out.isShared) return;
    this.state = "withdrawn";
    this.finish(-ECANCELED);
  }

  private giveBack(result: number): void {
    // The device can't know that it was too late.
    if (this.state === "withdrawn") return;
    if (this.state === "given back") throw new Error("a chain was used or parked twice");
    this.state = "given back";
    this.finish(result);
  }

  private finish(result: number): void {
    this.closeCursors();
    this.answer(this, result);
  }

  private closeCursors(): void {
    this.isShared ||= this.in.isShared || this.out.isShared;
    const why = () =>
      this.state === "withdrawn"
        ? new QueueStopped("the ring has stopped and taken its chains back")
        : new Error("a chain was touched after it had been given back");
    this.in.close(why);
    this.out.close(why);
  }
}

/** What the device holds. */
export class DeviceChain implements Chain {
  readonly in: ChainReader;
  readonly out: ChainWriter;

  constructor(private readonly held: HeldChain) {
    this.in = new BufferReader(held.in);
    this.out = new BufferWriter(held.out);
  }

  use(byteLength = this.out.written): void {
    this.held.use(byteLength);
  }

  park(): void {
    this.held.park();
  }
}
