// Plays a script on the core with a queue of chains, and compares with a plain list of chains: which comes to the device and when,
// what it is told of a predecessor's, what the driver gets back, and that each comes back once.
import assert from "node:assert/strict";
import { CHAIN_PARKED, OP_CHAIN } from "../../assembly/abi/chain.ts";
import { QUEUE_F_CREDIT } from "../../assembly/abi/queue.ts";
import { NOTHING_USED, type Segment } from "../../host/driver/ring.ts";
import { SplitRing } from "../../host/driver/split.ts";
import { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { drainEventfd } from "../../host/linux/eventfd.ts";
import { LEFTOVER_FLAGS, QUEUE_FLAGS } from "./chain-device.ts";
import type { Answer, ChainPlan, ChainSetup, ChainStep } from "./chain-script.ts";
import type { CoreHarness, Operation } from "./core-harness.ts";
import { DATA_GPA, GUEST_PTR, GUEST_WINDOW_SIZE, SHARED_PTR } from "./core-harness.ts";
import { ModelMemory, ptrOf } from "./model-memory.ts";

const EIO = 5;
const SLOTS = 16;
const SLOT_SIZE = 8192;
/** Whatever nobody writes holds this. */
const UNTOUCHED = 0xaa;
const GAP = 24;
const SHARES = 256;
const UNLIMITED = Number.POSITIVE_INFINITY;

/** Not offered to anybody yet; in the ring; at the device; let go of, and recorded as begun or as parked; answered. */
type State = "added" | "available" | "begun" | "left" | "parked" | "answered";

interface Pending {
  name: string;
  state: State;
  /** In the order in which chains were taken first: that in which they come again. */
  taken: number;
  slot: number;
  segments: Segment[];
  entries: number;
  before: Buffer;
  /** What the driver must find, once it is answered. */
  usedLength: number;
  written: Buffer;
}

export class ChainRun {
  private readonly queue: Virtqueue;
  private readonly memory: ModelMemory;
  /** By the driver's token, in the order in which they were added. */
  private readonly pending = new Map<number, Pending>();
  private readonly atDevice = new Map<Operation, Pending>();
  private readonly freeSlots = Array.from({ length: SLOTS }, (_, i) => DATA_GPA + i * SLOT_SIZE);
  private credit = 0;
  private added = 0;
  private takenCount = 0;
  private isCalled = false;
  /** What the core can know of chains that came before the ring started. */
  private flagsAtStart = new Map<Pending, number>();

  constructor(
    private readonly core: CoreHarness,
    private readonly setup: ChainSetup,
  ) {
    core.bytes.fill(0, SHARED_PTR, GUEST_PTR + GUEST_WINDOW_SIZE);
    this.memory = new ModelMemory(core.bytes);
    const { packed, size, eventIdx } = setup;
    this.queue = new Virtqueue(this.memory, { packed, size, eventIdx });
    core.boot();
    this.start(this.queue.ring.initialBase);
  }

  close(): void {
    this.queue.close();
  }

  /** Throws where the core does otherwise than the list. Returns how many chains there were. */
  play(steps: readonly ChainStep[]): number {
    this.queue.ring.enableCalls();
    for (const step of steps) this.step(step);
    this.finish();
    return this.added;
  }

  private step(step: ChainStep): void {
    const { isTracked } = this.setup;
    switch (step.do) {
      case "add":
        this.add(step.chain);
        break;
      case "kick":
        this.kick();
        break;
      case "credit":
        this.giveCredit(step.count, step.isAdded);
        break;
      case "answer":
        this.answer(step.which, step.answer);
        break;
      case "reap":
        this.reap();
        break;
      case "restart":
        this.restart(() => this.core.stop());
        break;
      case "suspend":
        if (isTracked) this.restart(() => this.core.suspend());
        break;
      case "crash":
        if (isTracked) this.crash();
        break;
    }
  }

  private finish(): void {
    for (let round = 0; round <= this.setup.size; round++) {
      this.kick();
      this.giveCredit(this.setup.size, false);
      while (this.core.operations.length > 0) this.answer(0, { kind: "used", share: SHARES });
      // What is parked comes when the ring starts again.
      if (this.inState("parked").length > 0) this.restart(() => this.core.stop());
      this.reap();
      if (this.pending.size === 0) break;
    }
    assert.deepEqual(
      [...this.pending.values()].map(({ name, state }) => `${name} (${state})`),
      [],
    );
    assert.equal(this.queue.ring.inFlight(), 0);
  }

  // --- The driver ---------------------------------------------------------------------------------------------------

  /** Does nothing if there is no room. */
  private add(plan: ChainPlan): void {
    const slot = this.freeSlots.at(-1);
    const segments = slot === undefined ? [] : layOut(plan, slot);
    const entries = plan.indirect ? 1 : segments.length;
    const taken = [...this.pending.values()].reduce((sum, each) => sum + each.entries, 0);
    if (slot === undefined || segments.length > this.setup.size || taken + entries > this.setup.size) return;
    this.freeSlots.pop();
    const serial = this.added++;
    const bytes = this.memory.bytes(slot, SLOT_SIZE).fill(UNTOUCHED);
    for (const { gpa, length, writable } of segments)
      if (!writable) bytes.fill(serial & 0x7f, gpa - slot, gpa - slot + length);
    const token = this.queue.add(segments, { indirect: plan.indirect });
    this.pending.set(token, {
      name: `chain ${serial}`,
      state: "added",
      taken: 0,
      slot,
      segments,
      entries,
      before: Buffer.from(bytes),
      usedLength: 0,
      written: Buffer.alloc(0),
    });
  }

  private kick(): void {
    for (const chain of this.inState("added")) chain.state = "available";
    this.queue.publish();
    this.queue.kick();
    this.turn();
  }

  private reap(): void {
    assert.ok(this.isCalled || !this.queue.hasUsed(), "the device used a chain and made no call");
    this.isCalled = false;
    do {
      for (let token = this.queue.popUsed(); token !== NOTHING_USED; token = this.queue.popUsed()) {
        const chain = this.pending.get(token)!;
        this.pending.delete(token);
        this.check(chain, this.queue.usedLength);
      }
      this.queue.ring.enableCalls();
    } while (this.queue.hasUsed());
  }

  private check({ name, state, usedLength, segments, slot, before, written }: Pending, length: number): void {
    assert.equal(state, "answered", `${name} is used`);
    assert.equal(length, usedLength, `${name}: used length`);
    const expected = Buffer.from(before);
    let from = 0;
    for (const segment of segments) {
      if (!segment.writable) continue;
      from += written.copy(expected, segment.gpa - slot, from, from + segment.length);
    }
    assert.ok(expected.equals(this.memory.bytes(slot, SLOT_SIZE)), `${name}: memory`);
    this.freeSlots.push(slot);
  }

  // --- The device ---------------------------------------------------------------------------------------------------

  private giveCredit(count: number, isAdded: boolean): void {
    if (!this.setup.hasCredit) return;
    this.credit = isAdded ? this.credit + count : count;
    if (isAdded) this.core.addCredit(count);
    else this.core.setCredit(count);
    this.turn();
  }

  /** A chain has come: the one that had to, with what the device must know of it. */
  private arrive(operation: Operation): void {
    assert.equal(operation.opcode, OP_CHAIN);
    const chain = this.nextToCome();
    assert.ok(chain !== undefined, "a chain comes that nobody offers");
    assert.ok(this.credit > 0, `${chain.name} comes without credit`);
    this.credit--;
    const flags = this.flagsAtStart.get(chain) ?? 0;
    assert.equal(operation.opFlags, flags, `${chain.name}: flags`);
    const buffers = this.core.buffersOf(operation, [OP_CHAIN]);
    const sides = [buffers.slice(0, operation.offset), buffers.slice(operation.offset)];
    const wanted = [false, true].map((side) =>
      merged(
        chain.segments.filter(({ writable }) => writable === side).map(({ gpa, length }) => [gpa, length]),
      ),
    );
    assert.deepEqual(sides.map(merged), wanted, `${chain.name}: buffers`);
    if (chain.state === "available") chain.taken = ++this.takenCount;
    chain.state = "begun";
    this.flagsAtStart.delete(chain);
    this.atDevice.set(operation, chain);
  }

  private nextToCome(): Pending | undefined {
    const again = [...this.inState("left"), ...this.inState("parked")]
      .filter((chain) => this.flagsAtStart.has(chain))
      .sort((a, b) => a.taken - b.taken);
    return again[0] ?? this.inState("available")[0];
  }

  private answer(which: number, answer: Answer): void {
    const { operations } = this.core;
    if (operations.length === 0) return;
    const at = which % operations.length;
    const operation = operations[at]!;
    const chain = this.atDevice.get(operation)!;
    this.atDevice.delete(operation);
    this.core.complete(at, this.resultOf(chain, answer));
    this.turn();
  }

  private resultOf(chain: Pending, answer: Answer): number {
    if (answer.kind === "parked") {
      // Without a record it would be lost.
      chain.state = this.setup.isTracked ? "parked" : "answered";
      return CHAIN_PARKED;
    }
    chain.state = "answered";
    if (answer.kind === "failed") return -EIO;
    const room = chain.segments.filter(({ writable }) => writable);
    const total = room.reduce((sum, { length }) => sum + length, 0);
    const length = Math.floor((total * answer.share) / SHARES);
    chain.usedLength = Math.min(length, total);
    chain.written = Buffer.alloc(chain.usedLength, 0x80 | chain.taken);
    let from = 0;
    for (const segment of room) {
      const part = chain.written.subarray(from, from + segment.length);
      this.memory.bytes(segment.gpa, segment.length).set(part);
      from += part.length;
    }
    return length;
  }

  // --- The core -----------------------------------------------------------------------------------------------------

  private turn(): void {
    const call = () => {
      this.isCalled = true;
    };
    const kicks = { takeKick: () => drainEventfd(this.queue.kickFd), call };
    this.core.turn(kicks, (operation) => this.arrive(operation));
    if (this.core.isStopped) return;
    assert.ok(
      this.credit === 0 || this.nextToCome() === undefined,
      "a chain is left in the ring for which there is credit",
    );
  }

  private restart(stop: () => void): void {
    // Once it is to stop, it takes nothing more.
    this.credit = 0;
    stop();
    this.turn();
    for (const [operation, chain] of this.atDevice) {
      if (this.core.operations.includes(operation)) continue;
      chain.state = "left";
      this.atDevice.delete(operation);
    }
    while (this.core.operations.length > 0) this.answer(0, { kind: "used", share: SHARES });
    assert.ok(this.core.isStopped, "the ring has stopped");
    this.start(this.core.base);
  }

  /** A new process finds what was in flight. */
  private crash(): void {
    for (const chain of this.atDevice.values()) chain.state = "left";
    this.atDevice.clear();
    this.core.boot();
    const { ring } = this.queue;
    this.start(ring instanceof SplitRing ? ring.usedIdx : ring.initialBase);
  }

  private start(base: number): void {
    const { size, packed: isPacked, eventIdx: hasEventIdx, recovery, hasCredit, isTracked } = this.setup;
    const { descriptor, available, used } = this.queue.ring.addresses;
    const pointers = { descPtr: ptrOf(descriptor), driverPtr: ptrOf(available), devicePtr: ptrOf(used) };
    this.flagsAtStart = new Map([
      ...this.inState("left").map((chain) => [chain, LEFTOVER_FLAGS[recovery]] as const),
      ...this.inState("parked").map((chain) => [chain, 0] as const),
    ]);
    // What was shown to the device while it had no credit is in the ring for its successor.
    this.credit = hasCredit ? 0 : UNLIMITED;
    this.core.track(isTracked ? size : 0);
    const flags = QUEUE_FLAGS[recovery] | (hasCredit ? QUEUE_F_CREDIT : 0);
    this.core.start({ ...pointers, shape: { size, isPacked, hasEventIdx } }, base, flags);
    this.turn();
  }

  private inState(state: State): Pending[] {
    return [...this.pending.values()].filter((chain) => chain.state === state);
  }
}

function layOut({ readable, writable, touches }: ChainPlan, slot: number): Segment[] {
  let gpa = slot + GAP;
  const place = (length: number, writable: boolean): Segment => {
    const segment = { gpa, length, writable };
    gpa += length + (touches ? 0 : GAP);
    return segment;
  };
  return [
    ...readable.map((length) => place(length, false)),
    ...writable.map((length) => place(length, true)),
  ];
}

/** Buffers that follow each other are one; those of no length are none. */
function merged(
  buffers: readonly (readonly [gpa: number, length: number])[],
): [gpa: number, length: number][] {
  const all: [number, number][] = [];
  for (const [gpa, length] of buffers) {
    const last = all.at(-1);
    if (length === 0) continue;
    if (last && last[0] + last[1] === gpa) last[1] += length;
    else all.push([gpa, length]);
  }
  return all;
}
