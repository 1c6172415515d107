// A descriptor chain from the turn that took it until it is given back, once: what the engine keeps of it, and what its device holds.
import { CHAIN_FAILED, CHAIN_FAILED_LIMIT, CHAIN_PARKED } from "../../assembly/abi/chain.ts";
import { ECANCELED } from "../../assembly/spec/io-uring.ts";
import { type Chain, type ChainReader, type ChainWriter, QueueStopped } from "../devices/device.ts";
import { ChainCursor, type Closer } from "./cursor.ts";
import { BufferReader } from "./reader.ts";
import { BufferWriter } from "./writer.ts";

/** The most that a completion's result can say. */
const RESULT_MAX = 0x7fffffff;

export interface ChainBuffers {
  readable: readonly Uint8Array[];
  writable: readonly Uint8Array[];
}

/** Where a chain came from. */
interface Origin {
  /** Whether chains may be parked. */
  readonly isStopping: boolean;
  /** The chain is given back. */
  answered(held: HeldChain, result: number): void;
}

/** What the engine keeps. It must not refer to the DeviceChain, whose loss could not be noticed then. */
export class HeldChain implements Closer {
  private state: "held" | "withdrawn" | "given back" = "held";
  /** Made when somebody asks for them: few devices do for both. */
  private inCursor: ChainCursor | undefined;
  private outCursor: ChainCursor | undefined;
  private isShared = false;
  private isFailing = false;

  /** `answer` gets a CQE's result, once. */
  constructor(
    private readonly buffers: ChainBuffers,
    private readonly origin: Origin,
    readonly answer: (result: number) => void,
  ) {}

  get in(): ChainCursor {
    this.inCursor ??= this.cursorOf(this.buffers.readable);
    return this.inCursor;
  }

  get out(): ChainCursor {
    this.outCursor ??= this.cursorOf(this.buffers.writable);
    return this.outCursor;
  }

  get isHeld(): boolean {
    return this.state === "held";
  }

  /** From the beginning again, for whoever says in place of a device that the request has failed. */
  beginFailure(): void {
    this.isFailing = true;
    this.closeCursors();
    this.inCursor = undefined;
    this.outCursor = undefined;
  }

  use(byteLength: number): void {
    const room = byteLength === 0 ? 0 : this.out.passed + this.out.left;
    if (!Number.isSafeInteger(byteLength) || byteLength < 0 || byteLength > room) {
      throw new RangeError(`a chain with room for ${room} bytes can't be used with ${byteLength}`);
    }
    this.giveBack(
      this.isFailing
        ? CHAIN_FAILED + Math.min(byteLength, CHAIN_FAILED_LIMIT - 1)
        : Math.min(byteLength, RESULT_MAX),
    );
  }

  park(): void {
    if (this.isHeld && !this.origin.isStopping)
      throw new Error("a chain can be parked only while its ring stops");
    this.giveBack(CHAIN_PARKED);
  }

  /** `result`: a negated errno. */
  fail(result: number): void {
    this.giveBack(result);
  }

  /** The core wants it back: the chain stays recorded for a successor. */
  withdraw(): void {
    this.takeBack(-ECANCELED);
  }

  /** As if its device had parked it, which it has not in time. */
  parkInstead(): void {
    this.takeBack(CHAIN_PARKED);
  }

  /** Not while its device may be at work on guest memory that it was given in place: then the ring waits for the device. */
  private takeBack(result: number): void {
    if (!this.isHeld || this.wasShared) return;
    this.state = "withdrawn";
    this.finish(result);
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
    this.origin.answered(this, result);
  }

  whyClosed(): Error {
    return this.state === "withdrawn"
      ? new QueueStopped("the ring has stopped and taken its chains back")
      : new Error("a chain was touched after it had been given back");
  }

  private get wasShared(): boolean {
    return this.isShared || this.inCursor?.isShared === true || this.outCursor?.isShared === true;
  }

  private cursorOf(buffers: readonly Uint8Array[]): ChainCursor {
    const cursor = new ChainCursor(buffers);
    if (!this.isHeld) cursor.close(this);
    return cursor;
  }

  private closeCursors(): void {
    this.isShared = this.wasShared;
    this.inCursor?.close(this);
    this.outCursor?.close(this);
  }
}

/** What the device holds. */
export class DeviceChain implements Chain {
  private reader: ChainReader | undefined;
  private writer: ChainWriter | undefined;

  constructor(readonly held: HeldChain) {}

  get in(): ChainReader {
    this.reader ??= new BufferReader(this.held.in);
    return this.reader;
  }

  get out(): ChainWriter {
    this.writer ??= new BufferWriter(this.held.out);
    return this.writer;
  }

  use(byteLength = this.out.written): void {
    this.held.use(byteLength);
  }

  park(): void {
    this.held.park();
  }
}
