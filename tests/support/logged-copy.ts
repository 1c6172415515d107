// A front-end that moves the guest while the core runs: before each store of the core it takes away what the log says, and copies those
// pages. Whatever the device has written must be in its copy whenever the core sleeps.
import assert from "node:assert/strict";
import { DIRTY_LOG_PAGE, DIRTY_LOG_PTR } from "../../assembly/abi/memory.ts";
import { type CoreHarness, DATA_GPA, DATA_SIZE, GUEST_GPA, GUEST_PTR, SHARED_PTR } from "./core-harness.ts";
import { RINGS_SIZE } from "./scripted-driver.ts";

const DATA_PAGES = DATA_SIZE / DIRTY_LOG_PAGE;
/** Words of the log: of the driver's page, and of those of data. */
const GUEST_WORD = wordOf(GUEST_GPA);
const DATA_WORDS = wordOf(DATA_GPA);

export class LoggedCopy {
  private readonly memory: Uint8Array;
  private readonly guestLog: Int32Array;
  private readonly dataLog: Int32Array;
  private readonly copy = new Uint8Array(RINGS_SIZE);
  /** As the last turn left it. */
  private readonly left = new Uint8Array(RINGS_SIZE);
  /** Whether the device wrote this byte, and the driver has not since. */
  private readonly isDevices = new Uint8Array(RINGS_SIZE);
  /** How often the device wrote to each page of data, and how much of that was copied. */
  private readonly written = new Uint32Array(DATA_PAGES);
  private readonly copied = new Uint32Array(DATA_PAGES);

  constructor(core: CoreHarness) {
    const { buffer } = core.bytes;
    this.memory = core.bytes.subarray(GUEST_PTR, GUEST_PTR + RINGS_SIZE);
    this.guestLog = new Int32Array(buffer, GUEST_WORD, 1);
    this.dataLog = new Int32Array(buffer, DATA_WORDS, DATA_PAGES / 32);
  }

  reset(): void {
    for (const each of this.parts()) each.fill(0);
    this.left.set(this.memory);
  }

  /** Takes over where `other`'s core was stopped, in the midst of a turn. */
  follow(other: LoggedCopy): void {
    const theirs = other.parts();
    this.parts().forEach((part, i) => {
      part.set(theirs[i] as never);
    });
    this.endTurn();
  }

  beginTurn(): void {
    for (let i = 0; i < RINGS_SIZE; i++) if (this.memory[i] !== this.left[i]) this.isDevices[i] = 0;
    this.left.set(this.memory);
  }

  endTurn(): void {
    for (let i = 0; i < RINGS_SIZE; i++) if (this.memory[i] !== this.left[i]) this.isDevices[i] = 1;
    this.left.set(this.memory);
  }

  wroteData(gpa: number): void {
    this.written[pageOf(gpa)]!++;
  }

  /** What is taken from the log is copied as it is now. */
  harvest(): void {
    if (this.guestLog[0] !== 0) {
      this.guestLog[0] = 0;
      this.copy.set(this.memory);
    }
    for (const [word, bits] of this.dataLog.entries()) {
      if (bits === 0) continue;
      this.dataLog[word] = 0;
      for (let bit = 0; bit < 32; bit++)
        if ((bits & (1 << bit)) !== 0) this.copied[word * 32 + bit] = this.written[word * 32 + bit]!;
    }
  }

  /** `open`: addresses of data of requests that are not used yet. What a predecessor wrote there is written, and logged, again. */
  check(open: readonly number[]): void {
    this.harvest();
    for (const gpa of open) this.copied[pageOf(gpa)] = this.written[pageOf(gpa)]!;
    for (let i = 0; i < RINGS_SIZE; i++)
      if (this.isDevices[i] === 1)
        assert.equal(this.copy[i], this.memory[i], `not logged: byte ${i} of the rings`);
    for (let page = 0; page < DATA_PAGES; page++)
      assert.equal(this.copied[page], this.written[page], `not logged: page ${page} of data`);
  }

  private parts() {
    const { guestLog, dataLog, copy, left, isDevices, written, copied } = this;
    return [guestLog, dataLog, copy, left, isDevices, written, copied];
  }
}

function pageOf(gpa: number): number {
  return Math.floor((gpa - DATA_GPA) / DIRTY_LOG_PAGE);
}

function wordOf(gpa: number): number {
  const word = DIRTY_LOG_PTR + Math.floor(gpa / DIRTY_LOG_PAGE / 32) * 4;
  assert.ok(word >= SHARED_PTR, "the log lies behind the rings");
  return word;
}
