// A device of chains for the crash explorer: what it has begun, what it has parked, and what it must be told of a chain that
// comes again.
import assert from "node:assert/strict";
import { CHAIN_F_FAIL, CHAIN_F_LEFTOVER, CHAIN_PARKED } from "../../assembly/abi/chain.ts";
import { QUEUE_F_CHAINS, QUEUE_F_RECOVER_FAIL, QUEUE_F_RECOVER_FORGET } from "../../assembly/abi/queue.ts";

const EIO = 5;

/** What a queue says of a dead predecessor's chains. */
export type Recovery = "repeat" | "fail" | "forget";

export const QUEUE_FLAGS: Record<Recovery, number> = {
  repeat: QUEUE_F_CHAINS,
  fail: QUEUE_F_CHAINS | QUEUE_F_RECOVER_FAIL,
  forget: QUEUE_F_CHAINS | QUEUE_F_RECOVER_FORGET,
};

/** What the device is told of a chain that a dead predecessor had begun. */
export const LEFTOVER_FLAGS: Record<Recovery, number> = {
  repeat: CHAIN_F_LEFTOVER,
  fail: CHAIN_F_LEFTOVER | CHAIN_F_FAIL,
  forget: 0,
};

/** Begun and not answered; parked, which the core has recorded; or one of both, since the core is on its way between them. */
type Past = "begun" | "parked" | "either";

export class ChainDevice {
  private past = new Map<number, Past>();
  /** As it was when the ring started: that is what the core can know of. */
  private pastAtStart = new Map<number, Past>();
  private firstNew = 0;
  /** The lengths of those that were answered, by serial. */
  private readonly answers = new Map<number, number>();
  private readonly parkedOnce = new Set<number>();

  constructor(private readonly recovery: Recovery) {}

  /** Another life of the same device. */
  copy(): ChainDevice {
    const copy = new ChainDevice(this.recovery);
    for (const [serial, past] of this.past) copy.past.set(serial, past);
    for (const [serial, length] of this.answers) copy.answers.set(serial, length);
    for (const serial of this.parkedOnce) copy.parkedOnce.add(serial);
    return copy;
  }

  /** The ring starts: chains before `firstNew` were there before. Those in `owed` were never shown to the driver as used. */
  start(firstNew: number, owed: readonly number[]): void {
    this.firstNew = firstNew;
    for (const serial of owed) {
      // It was answered, and nobody has seen that.
      if (this.answers.delete(serial)) this.past.set(serial, "begun");
    }
    this.pastAtStart = new Map(this.past);
    // From now on each may be taken again at any time.
    for (const [serial, past] of this.past) if (past === "parked") this.past.set(serial, "either");
  }

  begin(serial: number, flags: number): void {
    const past = serial >= this.firstNew ? "new" : (this.pastAtStart.get(serial) ?? "either");
    const leftover = LEFTOVER_FLAGS[this.recovery];
    const allowed = { new: [0], begun: [leftover], parked: [0], either: [0, leftover] }[past];
    assert.ok(allowed.includes(flags), `chain ${serial} (${past}) comes with flags ${flags}`);
    this.past.set(serial, "begun");
  }

  /** The result for a chain: some are parked, but none twice. */
  finish(serial: number, flags: number, mayPark: boolean): number {
    if (mayPark && serial % 5 === 3 && !this.parkedOnce.has(serial)) {
      this.parkedOnce.add(serial);
      this.past.set(serial, "either");
      return CHAIN_PARKED;
    }
    this.past.delete(serial);
    const length = (flags & CHAIN_F_FAIL) !== 0 ? 0 : lengthOf(serial);
    this.answers.set(serial, length);
    return (flags & CHAIN_F_FAIL) !== 0 ? -EIO : length;
  }

  /** The core has taken all results. */
  settle(): void {
    for (const [serial, past] of this.past) {
      if (past === "either" && this.parkedOnce.has(serial)) this.past.set(serial, "parked");
    }
  }

  get hasParked(): boolean {
    return [...this.past.values()].includes("parked");
  }

  /** What the driver must find when the chain is used. */
  usedLength(serial: number, writable: number): number {
    const length = this.answers.get(serial);
    if (length === undefined) throw new Error(`chain ${serial} is used, and the device has not answered it`);
    return Math.min(length, writable);
  }
}

/** Some are more than any driver gave to write. */
function lengthOf(serial: number): number {
  return serial % 11 === 7 ? 100_000 : 1 + (serial % 97);
}
