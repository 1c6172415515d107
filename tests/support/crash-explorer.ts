// Runs the core on a script, stops it before each of its stores to shared memory, and has a successor go on from there.
//
// The core isn't really stopped: the hook before a store copies shared memory to another world, where a fresh core
// recovers and finishes, and then the first core goes on. Successors are stopped in the same way, while they recover.
import assert from "node:assert/strict";
import { OP_CHAIN } from "../../assembly/abi/chain.ts";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_FEATURES,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  PACKED_ENTRIES,
  PACKED_ENTRY_INFLIGHT,
  PACKED_ENTRY_NEXT,
  PACKED_ENTRY_SIZE,
  PACKED_FREE_HEAD,
  PACKED_OLD_FREE_HEAD,
  PACKED_OLD_USED_IDX,
  PACKED_OLD_USED_WRAP,
  PACKED_USED_IDX,
  PACKED_USED_WRAP,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_SIZE,
  SPLIT_USED_IDX,
} from "../../assembly/spec/inflight.ts";
import {
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_WRITEV,
} from "../../assembly/spec/io-uring.ts";
import { SECTOR_SHIFT } from "../../assembly/spec/virtio-blk.ts";
import { USED_IDX } from "../../assembly/spec/virtqueue.ts";
import { ChainDevice, QUEUE_FLAGS, type Recovery } from "./chain-device.ts";
import { CoreHarness, DATA_GPA, GUEST_PTR, type Operation, REGION_PTR, SHARED_PTR } from "./core-harness.ts";
import { LoggedCopy } from "./logged-copy.ts";
import {
  createDriver,
  DRIVER_SIZE,
  dataGpa,
  type Outstanding,
  type RingShape,
  type ScriptedDriver,
  withOperations,
} from "./scripted-driver.ts";
import {
  INDIRECT_CHAIN,
  INDIRECT_CHAIN_IN,
  INDIRECT_READ,
  INDIRECT_WRITE,
  type Kind,
  resultOf,
} from "./scripted-requests.ts";

const SHARED_END = GUEST_PTR + DRIVER_SIZE;
/** One descriptor each. */
const SINGLES = [INDIRECT_READ, INDIRECT_WRITE];
const CHAIN_SINGLES = [INDIRECT_CHAIN, INDIRECT_CHAIN_IN];

const PACKED_INITIAL_BASE = 0x80008000;

/** How far a crash in a recovery from a crash in a recovery is followed. */
const DEPTH_MAX = 3;

export interface Scenario {
  name: string;
  shape: RingShape;
  /** Completions that the core sees at once. */
  batch: number;
  kinds: readonly Kind[];
  rounds: number;
  /** Where the indices of a split ring begin. */
  start?: number;
  /** Descriptors that the region has room for: the ring's size, or more. */
  entries?: number;
  /** Rounds in which nothing is recorded yet. */
  untrackedRounds?: number;
  /** Version 0, and anything in the rest of the region. */
  hasUninitializedRegion?: boolean;
  /** The guest was reset since, but the region is the one of its former life. */
  hasFormerLife?: boolean;
  /** The driver takes all that is used, each time, and what it doesn't know of it must have been called for. */
  checksCalls?: boolean;
  /** The predecessor doesn't crash but leaves its requests behind. */
  suspends?: boolean;
  /** Stops successors in all that they do, not in their recovery alone. */
  isThorough?: boolean;
  /** The queue's chains are operations, which come again like this; `kinds` are chains, then. */
  chains?: Recovery;
  /** Some chains are parked, and every few rounds the ring stops and starts again. */
  parks?: boolean;
  /** A front-end moves the guest meanwhile. */
  isLogged?: boolean;
}

export interface Totals {
  scenarios: number;
  requests: number;
  stores: number;
  recoveries: number;
  nested: number;
}

type Order = (turn: number, count: number) => number;
const ORDERS: readonly Order[] = [() => 0, (_, count) => count - 1, (turn, count) => (turn * 5 + 3) % count];

/** What the driver does while nobody serves it. */
const MEANWHILE: readonly ((driver: ScriptedDriver, kinds: readonly Kind[]) => void)[] = [
  () => {},
  (driver) => driver.consume(driver.shape.size),
  (driver, kinds) => {
    driver.consume(driver.shape.size);
    fill(driver, kinds, driver.shape.size);
    driver.publish();
  },
];

function fill(driver: ScriptedDriver, kinds: readonly Kind[], most: number): number {
  for (let count = 0; ; count++) {
    const kind = kinds[driver.added % kinds.length]!;
    if (count === most || !driver.hasRoom(kind)) return count;
    driver.add(kind);
  }
}

/** Memory, a core and a driver; the script of the first life, or the end of a later one. */
class World {
  readonly core: CoreHarness;
  readonly shared: Uint8Array;
  readonly sharedWords: Int32Array;
  driver!: ScriptedDriver;
  scenario!: Scenario;
  /** Whether a crash may come at a store. */
  isWatched = false;
  /** What the front-end sent when the ring was started first. */
  base = 0;
  device: ChainDevice | undefined;
  copy: LoggedCopy | undefined;
  private lastSubmitted = -1;

  constructor(
    module: WebAssembly.Module,
    readonly depth: number,
    private readonly onCrash: (world: World) => void,
  ) {
    this.core = new CoreHarness(module, { beforeStore: (address) => this.beforeStore(address) });
    this.shared = this.core.bytes.subarray(SHARED_PTR, SHARED_END);
    this.sharedWords = new Int32Array(this.shared.buffer, SHARED_PTR, this.shared.length / 4);
  }

  prepare(scenario: Scenario): void {
    this.scenario = scenario;
    this.driver = createDriver(this.core.view, GUEST_PTR, scenario.shape);
    this.isWatched = false;
    this.copy = scenario.isLogged ? new LoggedCopy(this.core) : undefined;
    if (scenario.chains === undefined) return;
    this.device = new ChainDevice(scenario.chains);
    this.driver.outcomeOf = (kind, serial) => {
      const writable = kind.buffers.reduce((sum, buffer) => sum + (buffer.writable ? buffer.length : 0), 0);
      return { status: undefined, length: this.device!.usedLength(serial, writable) };
    };
  }

  // --- The first life -----------------------------------------------------------------------------------------------

  runScript(): void {
    const { scenario, core, driver } = this;
    this.shared.fill(0);
    driver.reset(scenario.start ?? 0);
    this.base = scenario.shape.isPacked ? PACKED_INITIAL_BASE : (scenario.start ?? 0);
    if (scenario.untrackedRounds !== undefined) this.runUntracked(scenario.untrackedRounds);
    if (scenario.hasFormerLife) this.runFormerLife();
    if (scenario.hasUninitializedRegion) this.spoilRegion();
    this.copy?.reset();
    this.boot();
    core.track(entriesOf(scenario));
    this.isWatched = true;
    this.begin(this.base);
    this.turn();
    for (let round = 0; round < scenario.rounds; round++) {
      this.playRound(round);
      if (scenario.parks && round % 3 === 2) this.restart();
    }
    if (scenario.suspends) this.suspend();
    this.isWatched = false;
    if (scenario.parks && !scenario.suspends) this.restart();
    if (!scenario.suspends) this.finish();
  }

  private runUntracked(rounds: number): void {
    this.core.boot();
    this.begin(this.base);
    for (let round = 0; round < rounds; round++) this.playRound(round);
    while (this.core.operations.length > 0) this.completeSome(rounds);
    this.core.stop();
    this.turn();
    assert.ok(this.core.isStopped);
    this.base = this.core.base;
  }

  /** Some of its requests are in flight when the guest is reset. */
  private runFormerLife(): void {
    this.driver.reset(100);
    this.core.boot();
    this.core.track(entriesOf(this.scenario));
    this.begin(100);
    for (let round = 0; round < 3; round++) this.playRound(round);
    this.driver.reset(0);
  }

  private spoilRegion(): void {
    const { bytes, view } = this.core;
    bytes.fill(1, REGION_PTR, REGION_PTR + regionSize(this.scenario));
    view.setUint16(REGION_PTR + INFLIGHT_REGION_VERSION, 0, true);
  }

  private playRound(round: number): void {
    const { driver, scenario } = this;
    const { size } = driver.shape;
    fill(driver, scenario.kinds, round % 3 === 1 ? 1 : size);
    driver.publish();
    this.turn();
    this.completeSome(round);
    driver.consume(scenario.checksCalls ? size : [size, size, 1, 0][round % 4]!);
  }

  /** The ring stops, and starts again where it was: with what was parked. */
  private restart(): void {
    this.core.stop();
    this.turn();
    while (this.core.operations.length > 0) this.completeSome(1);
    assert.ok(this.core.isStopped, "stopped");
    this.begin(this.core.base);
    this.turn();
  }

  private suspend(): void {
    fill(this.driver, this.scenario.kinds, this.driver.shape.size);
    this.driver.publish();
    this.turn();
    this.core.suspend();
    this.turn();
    // Those that could not be cancelled end as ever.
    while (this.core.operations.length > 0) this.completeSome(1);
    assert.ok(this.core.isStopped, "suspended");
    this.onCrash(this);
  }

  // --- A later life -------------------------------------------------------------------------------------------------

  recover(base: number): void {
    const { core, scenario, driver } = this;
    this.boot();
    core.track(entriesOf(scenario));
    this.isWatched = true;
    this.begin(base);
    this.isWatched = scenario.isThorough ?? false;
    this.turn();
    if (scenario.checksCalls && driver.hasUsed()) assert.ok(driver.isCalled, "the driver is never called");
    this.finish();
    this.isWatched = false;
  }

  /** Completes all there is, then serves a lap of the ring one by one, then a ring full of requests at once. */
  private finish(): void {
    const { driver } = this;
    const { size } = driver.shape;
    this.drain();
    // Whatever was left in the ring is met here, before the driver writes over it.
    for (let i = 0; i <= size; i++) this.serveSingles(1);
    this.serveSingles(size);
    assert.equal(driver.completed, driver.added);
    this.checkRegion();
  }

  private serveSingles(count: number): void {
    const { driver, core } = this;
    fill(driver, this.scenario.chains === undefined ? SINGLES : CHAIN_SINGLES, count);
    driver.publish();
    this.turn();
    assert.equal(core.operations.length, count, "requests that were begun");
    this.drain();
  }

  private drain(): void {
    const { driver, core, scenario } = this;
    // The first batch is smaller than that of the predecessor was, so that what that one staged shows if it is still there.
    for (let round = 0; core.operations.length > 0; round++) {
      this.completeSome(round, round === 0 ? 1 : scenario.batch);
      driver.consume(driver.shape.size);
    }
    driver.consume(driver.shape.size);
    const lost = driver.outstanding().map(({ serial, kind }) => `${serial} (${kind.name})`);
    assert.deepEqual(lost, [], "requests lost");
  }

  private checkRegion(): void {
    const { view } = this.core;
    assert.equal(view.getBigUint64(REGION_PTR + INFLIGHT_FEATURES, true), 0n);
    assert.equal(view.getUint16(REGION_PTR + INFLIGHT_REGION_VERSION, true), INFLIGHT_VERSION);
    const entries = entriesOf(this.scenario);
    assert.equal(view.getUint16(REGION_PTR + INFLIGHT_DESC_NUM, true), entries);
    if (this.driver.shape.isPacked) checkPackedRegion(view, entries, this.driver);
    else checkSplitRegion(view, entries, this.driver);
  }

  // --- Both ---------------------------------------------------------------------------------------------------------

  private boot(): void {
    this.core.boot();
    this.core.setLogging(this.scenario.isLogged === true);
  }

  private begin(base: number): void {
    const { core, driver, device, scenario } = this;
    this.lastSubmitted = -1;
    device?.start(
      driver.added,
      driver.outstanding().map(({ serial }) => serial),
    );
    core.start(driver, base, scenario.chains === undefined ? 0 : QUEUE_FLAGS[scenario.chains]);
  }

  private turn(): void {
    this.copy?.beginTurn();
    this.core.turn(this.driver, (operation) => this.checkOperation(operation));
    this.copy?.endTurn();
    this.copy?.check(this.driver.outstanding().map(({ serial }) => dataGpa(serial)));
    this.device?.settle();
  }

  private completeSome(round: number, batch = this.scenario.batch): void {
    const { core } = this;
    const order = ORDERS[round % ORDERS.length]!;
    for (let i = 0; i < batch && core.operations.length > 0; i++) {
      const at = order(i, core.operations.length);
      const operation = core.operations[at]!;
      this.writeData(operation);
      core.complete(at, this.resultOf(operation));
    }
    this.turn();
  }

  /** As whoever does the operation: also one that fails then. */
  private writeData(operation: Operation): void {
    if (this.copy === undefined) return;
    const isChain = operation.opcode === OP_CHAIN;
    if (!isChain && operation.opcode !== IORING_OP_READ) return;
    const buffers = this.core.buffersOf(operation, [OP_CHAIN]);
    // Of a chain, the driver's come first.
    for (const [gpa] of buffers.slice(isChain ? operation.offset : 0))
      if (gpa >= DATA_GPA) this.copy.wroteData(gpa);
  }

  private resultOf(operation: Operation): number {
    const { device, scenario, depth } = this;
    if (device === undefined) return resultOf(operation);
    // Whose it is, its data says.
    const [gpa] = this.core.buffersOf(operation, [OP_CHAIN]).find(([at]) => at >= DATA_GPA)!;
    const next = this.driver
      .outstanding()
      .find(({ serial }) => Math.floor((gpa - dataGpa(serial)) / 0x1000) === 0);
    assert.ok(next !== undefined, "an operation of a chain that is over");
    return device.finish(
      next.serial,
      operation.opFlags,
      scenario.parks === true && depth === 0 && this.isWatched,
    );
  }

  /** Requests are begun in the driver's order, none is passed over, and none is begun that is completed. */
  private checkOperation(operation: Operation): void {
    const [next] = withOperations(this.driver.outstanding()).filter(
      ({ serial }) => serial > this.lastSubmitted,
    );
    assert.ok(next !== undefined, `an operation nobody asked for: ${describe(operation)}`);
    this.lastSubmitted = next.serial;
    const message = `request ${next.serial} (${next.kind.name}) became ${describe(operation)}`;
    assert.equal(operation.opcode, next.kind.opcode, message);
    if (operation.opcode === OP_CHAIN) this.checkChain(operation, next);
    if (operation.opcode === OP_CHAIN || operation.opcode === IORING_OP_FSYNC) return;
    assert.equal(operation.offset >> SECTOR_SHIFT, next.serial, message);
    if (operation.opcode !== IORING_OP_FALLOCATE) this.checkBuffers(operation, next);
  }

  private checkChain(operation: Operation, next: Outstanding): void {
    const buffers = this.driver.buffersOf(next);
    assert.equal(operation.fd, 0, "queue");
    assert.equal(operation.offset, buffers.filter(({ writable }) => !writable).length, "readable buffers");
    assert.deepEqual(
      this.core.buffersOf(operation, [OP_CHAIN]),
      buffers.map(({ gpa, length }) => [gpa, length]),
    );
    this.device!.begin(next.serial, operation.opFlags);
  }

  private checkBuffers(operation: Operation, { serial, kind }: Outstanding): void {
    const buffers = this.core.buffersOf(operation, [IORING_OP_WRITEV]);
    const expected = kind.buffers.filter(({ where }) => where === "data");
    assert.equal(buffers.length, expected.length);
    expected.forEach(({ offset, length }, i) => {
      assert.equal(buffers[i]![0], dataGpa(serial) + offset);
      assert.equal(buffers[i]![1], length);
    });
  }

  private beforeStore(address: number): void {
    if (
      !isInRegion(address, this.scenario) &&
      !this.driver.isDevicePart(address) &&
      !(this.device === undefined && this.driver.isOwedStatus(address))
    ) {
      throw new Error(`a wild store to 0x${address.toString(16)}`);
    }
    if (this.isWatched) this.onCrash(this);
    this.copy?.harvest();
  }
}

function entriesOf({ entries, shape }: Scenario): number {
  return entries ?? shape.size;
}

function regionSize(scenario: Scenario): number {
  const count = entriesOf(scenario);
  return scenario.shape.isPacked
    ? PACKED_ENTRIES + count * PACKED_ENTRY_SIZE
    : SPLIT_ENTRIES + count * SPLIT_ENTRY_SIZE;
}

function isInRegion(address: number, scenario: Scenario): boolean {
  return address >= REGION_PTR && address < REGION_PTR + regionSize(scenario);
}

function describe({ opcode, offset, length }: Operation): string {
  return `opcode ${opcode} at ${offset}, length ${length}`;
}

function checkSplitRegion(view: DataView, entries: number, driver: ScriptedDriver): void {
  assert.equal(view.getUint16(REGION_PTR + SPLIT_USED_IDX, true), driver.nextUsed, "used_idx");
  for (let i = 0; i < entries; i++) {
    const entry = REGION_PTR + SPLIT_ENTRIES + i * SPLIT_ENTRY_SIZE;
    assert.equal(view.getUint8(entry + SPLIT_ENTRY_INFLIGHT), 0, `entry ${i} in flight`);
  }
}

function checkPackedRegion(view: DataView, entries: number, driver: ScriptedDriver): void {
  const half = (offset: number) => view.getUint16(REGION_PTR + offset, true);
  assert.equal(half(PACKED_FREE_HEAD), half(PACKED_OLD_FREE_HEAD), "free heads");
  assert.deepEqual([half(PACKED_USED_IDX), half(PACKED_OLD_USED_IDX)], [driver.nextUsed, driver.nextUsed]);
  assert.equal(view.getUint8(REGION_PTR + PACKED_USED_WRAP), driver.usedWrap);
  assert.equal(view.getUint8(REGION_PTR + PACKED_OLD_USED_WRAP), driver.usedWrap);
  const seen = new Set<number>();
  for (let index = half(PACKED_FREE_HEAD); index !== entries; ) {
    assert.ok(index < entries && !seen.has(index), `the free list comes to ${index}`);
    seen.add(index);
    const entry = REGION_PTR + PACKED_ENTRIES + index * PACKED_ENTRY_SIZE;
    assert.equal(view.getUint8(entry + PACKED_ENTRY_INFLIGHT), 0, `entry ${index} in flight`);
    index = view.getUint16(entry + PACKED_ENTRY_NEXT, true);
  }
  assert.equal(seen.size, entries, "free entries");
}

/** 53 bits of a hash: two memories of one run that share it are not to be expected. */
function digestOf(words: Int32Array): number {
  let low = 0x811c9dc5;
  let high = 0x1b873593;
  for (let i = 0; i < words.length; i++) {
    low = Math.imul(low ^ words[i]!, 0x01000193);
    low ^= low >>> 15;
    high = Math.imul(high ^ words[i]!, 0x5bd1e995);
    high ^= high >>> 13;
  }
  return (high >>> 0) * 0x20_0000 + (low >>> 11);
}

export class CrashExplorer {
  readonly totals: Totals = { scenarios: 0, requests: 0, stores: 0, recoveries: 0, nested: 0 };
  private readonly worlds: World[];
  private readonly seen = new Set<number>();
  /** Which store of each life the crash came before, and what the driver did then. */
  private readonly path: string[] = [];
  private readonly storeCounts: number[] = [];

  constructor(module: WebAssembly.Module) {
    this.worlds = Array.from({ length: DEPTH_MAX + 1 }, (_, depth) => {
      return new World(module, depth, (world) => this.crash(world));
    });
  }

  run(scenario: Scenario): void {
    this.seen.clear();
    this.path.length = 0;
    this.storeCounts.fill(0);
    for (const world of this.worlds) world.prepare(scenario);
    try {
      this.worlds[0]!.runScript();
    } catch (error) {
      const where = this.path.length === 0 ? "without a crash" : `crashed ${this.path.join(", then ")}`;
      throw new Error(`${scenario.name}, ${where}: ${(error as Error).message}`, { cause: error });
    }
    this.totals.scenarios++;
    this.totals.requests += this.worlds[0]!.driver.added;
    this.totals.stores += this.storeCounts[0] ?? 0;
  }

  private crash(world: World): void {
    const { depth, scenario } = world;
    const store = this.storeCounts[depth] ?? 0;
    this.storeCounts[depth] = store + 1;
    const successor = this.worlds[depth + 1];
    if (successor === undefined) return;
    const choices = scenario.checksCalls ? 1 : MEANWHILE.length;
    for (let choice = 0; choice < choices; choice++) {
      successor.shared.set(world.shared);
      successor.device = world.device?.copy();
      if (world.copy !== undefined) successor.copy!.follow(world.copy);
      MEANWHILE[choice]!(successor.driver, scenario.kinds);
      // The same memory has the same future.
      const digest = digestOf(successor.sharedWords);
      if (this.seen.has(digest)) continue;
      this.seen.add(digest);
      this.path.push(`before store ${store} (${["idle", "taking", "adding"][choice]})`);
      this.storeCounts[depth + 1] = 0;
      this.recover(world, successor);
      this.path.pop();
    }
  }

  private recover(world: World, successor: World): void {
    this.totals.recoveries++;
    if (world.depth > 0) this.totals.nested++;
    successor.recover(this.baseFor(world));
  }

  /**
   * What the front-end sends. Packed: what it sent first, long ago. Split: used.idx, as QEMU does after a crash; others
   * may send what they sent first too.
   */
  private baseFor(world: World): number {
    const { isPacked } = world.scenario.shape;
    const first = this.worlds[0]!.base;
    if (isPacked || this.totals.recoveries % 2 === 0) return first;
    return world.core.view.getUint16(world.driver.devicePtr + USED_IDX, true);
  }
}
