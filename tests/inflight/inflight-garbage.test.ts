// Inflight regions that no honest back-end would leave: a clean start or a broken ring, never a trap, a hang or a wild store.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FAULT_ADDRESS, FAULT_INFLIGHT_REGION } from "../../assembly/abi/faults.ts";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  PACKED_ENTRIES,
  PACKED_ENTRY_ADDR,
  PACKED_ENTRY_COUNTER,
  PACKED_ENTRY_FLAGS,
  PACKED_ENTRY_INFLIGHT,
  PACKED_ENTRY_LAST,
  PACKED_ENTRY_LEN,
  PACKED_ENTRY_NEXT,
  PACKED_ENTRY_NUM,
  PACKED_ENTRY_SIZE,
  PACKED_FREE_HEAD,
  PACKED_OLD_FREE_HEAD,
  PACKED_OLD_USED_IDX,
  PACKED_OLD_USED_WRAP,
  PACKED_USED_IDX,
  PACKED_USED_WRAP,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_COUNTER,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_NEXT,
  SPLIT_ENTRY_SIZE,
  SPLIT_LAST_BATCH_HEAD,
  SPLIT_USED_IDX,
} from "../../assembly/spec/inflight.ts";
import { VIRTQ_DESC_F_INDIRECT } from "../../assembly/spec/virtqueue.ts";
import {
  CoreHarness,
  DATA_PTR,
  DATA_SIZE,
  GUEST_GPA,
  GUEST_PTR,
  GUEST_WINDOW_SIZE,
  QueueBroken,
  REGION_PTR,
  SHARED_PTR,
} from "../support/core-harness.ts";
import { compileDebugCore } from "../support/debug-core.ts";
import { type Random, tellSeed } from "../support/random.ts";
import {
  createDriver,
  DRIVER_SIZE,
  type RingShape,
  type ScriptedDriver,
} from "../support/scripted-driver.ts";
import { INDIRECT_READ, KINDS, resultOf } from "../support/scripted-requests.ts";

const SHAPES: readonly RingShape[] = [
  { size: 4, isPacked: false, hasEventIdx: false },
  { size: 8, isPacked: false, hasEventIdx: true },
  { size: 3, isPacked: true, hasEventIdx: false },
  { size: 8, isPacked: true, hasEventIdx: true },
];
const SPLIT = SHAPES[0]!;
const PACKED = SHAPES[3]!;

/** One round a request and some more: a ring that isn't done by then never is. */
const ROUNDS_MAX = 64;
const RANDOM_REGIONS = 2000;
const GUARD = 0xa7;
const GUARD_SIZE = 64;
const GUEST_END = GUEST_PTR + GUEST_WINDOW_SIZE;

const core = await compileDebugCore();

/** A ring with requests in flight and available, and its region: everything before a crash. */
class Scene {
  readonly harness: CoreHarness;
  readonly driver: ScriptedDriver;
  private readonly regionEnd: number;
  private prepared: Uint8Array | undefined;

  constructor(
    readonly shape: RingShape,
    readonly entries = shape.size,
  ) {
    this.regionEnd = REGION_PTR + regionSize(shape, entries);
    this.harness = new CoreHarness(core, { beforeStore: (address) => this.beforeStore(address) });
    this.driver = createDriver(this.harness.view, GUEST_PTR, shape);
  }

  get region(): DataView {
    return new DataView(this.harness.bytes.buffer, REGION_PTR, this.regionEnd - REGION_PTR);
  }

  get base(): number {
    return this.shape.isPacked ? 0x80008000 : this.driver.nextUsed;
  }

  /** Leaves the ring as a crash does: some used, some in flight, some that the driver has just added. */
  prepare(): void {
    this.prepared ??= this.runToCrash();
    this.harness.bytes.set(this.prepared, SHARED_PTR);
  }

  private runToCrash(): Uint8Array {
    const { harness, driver, shape } = this;
    driver.reset(0);
    this.start();
    for (let round = 0; round < 5; round++) {
      this.addSome();
      this.turn();
      for (let i = 0; i < 2 && harness.operations.length > 0; i++) this.complete(0);
      this.turn();
      if (round < 4) driver.consume(shape.size);
    }
    this.addSome();
    harness.bytes.fill(GUARD, SHARED_PTR, REGION_PTR);
    harness.bytes.fill(GUARD, this.regionEnd, GUEST_PTR);
    harness.bytes.fill(GUARD, GUEST_END, GUEST_END + GUARD_SIZE);
    return harness.bytes.slice(SHARED_PTR, GUEST_PTR + DRIVER_SIZE);
  }

  /** What a successor makes of the region as it is now: the FAULT that broke the ring, or 0. */
  recover(): number {
    const fault = this.runToEnd();
    this.checkGuards();
    return fault;
  }

  private runToEnd(): number {
    const { harness } = this;
    try {
      this.start();
      this.turn();
      for (let round = 0; harness.operations.length > 0; round++) {
        assert.ok(round < ROUNDS_MAX, "requests without end");
        this.complete(round % harness.operations.length);
        this.turn();
      }
      return 0;
    } catch (error) {
      if (!(error instanceof QueueBroken)) throw error;
      assert.ok(error.fault < 0);
      return error.fault;
    }
  }

  private start(): void {
    this.harness.boot();
    this.harness.track(this.entries);
    this.harness.start(this.driver, this.base);
  }

  private turn(): void {
    this.harness.turn(this.driver, () => {});
  }

  private complete(at: number): void {
    this.harness.complete(at, resultOf(this.harness.operations[at]!));
  }

  private addSome(): void {
    const { driver } = this;
    for (let i = 0; i < 3 && driver.hasRoom(INDIRECT_READ); i++) {
      const kind = KINDS[driver.added % KINDS.length]!;
      driver.add(driver.hasRoom(kind) ? kind : INDIRECT_READ);
    }
    driver.publish();
  }

  /** A record may name any guest memory for a status byte, so that much is the guest's own business. */
  private beforeStore(address: number): void {
    const isInRegion = address >= REGION_PTR && address < this.regionEnd;
    const isInGuest = address >= GUEST_PTR && address < GUEST_END;
    const isInData = address >= DATA_PTR && address < DATA_PTR + DATA_SIZE;
    assert.ok(isInRegion || isInGuest || isInData, `a wild store to 0x${address.toString(16)}`);
  }

  /** The hook sees no memory.fill and no memory.copy. */
  private checkGuards(): void {
    const { bytes } = this.harness;
    const guards: [start: number, end: number][] = [
      [SHARED_PTR, REGION_PTR],
      [this.regionEnd, GUEST_PTR],
      [GUEST_END, GUEST_END + GUARD_SIZE],
    ];
    for (const [start, end] of guards) {
      for (let at = start; at < end; at++) assert.equal(bytes[at], GUARD, `0x${at.toString(16)} was written`);
    }
  }
}

function regionSize({ isPacked }: RingShape, entries: number): number {
  return isPacked ? PACKED_ENTRIES + entries * PACKED_ENTRY_SIZE : SPLIT_ENTRIES + entries * SPLIT_ENTRY_SIZE;
}

function nameOf({ size, isPacked }: RingShape): string {
  return `a ${isPacked ? "packed" : "split"} ring of ${size}`;
}

type Field = [offset: number, width: 1 | 2 | 4 | 8];

function fieldsOf({ isPacked }: RingShape, entries: number): Field[] {
  const [head, start, stride, fields] = isPacked
    ? [PACKED_HEAD_FIELDS, PACKED_ENTRIES, PACKED_ENTRY_SIZE, PACKED_ENTRY_FIELDS]
    : [SPLIT_HEAD_FIELDS, SPLIT_ENTRIES, SPLIT_ENTRY_SIZE, SPLIT_ENTRY_FIELDS];
  const all = [...head];
  for (let i = 0; i < entries; i++) {
    for (const [offset, width] of fields) all.push([start + i * stride + offset, width]);
  }
  return all;
}

const SPLIT_HEAD_FIELDS: Field[] = [
  [SPLIT_LAST_BATCH_HEAD, 2],
  [SPLIT_USED_IDX, 2],
];
const SPLIT_ENTRY_FIELDS: Field[] = [
  [SPLIT_ENTRY_INFLIGHT, 1],
  [SPLIT_ENTRY_NEXT, 2],
  [SPLIT_ENTRY_COUNTER, 8],
];
const PACKED_HEAD_FIELDS: Field[] = [
  [PACKED_FREE_HEAD, 2],
  [PACKED_OLD_FREE_HEAD, 2],
  [PACKED_USED_IDX, 2],
  [PACKED_OLD_USED_IDX, 2],
  [PACKED_USED_WRAP, 1],
  [PACKED_OLD_USED_WRAP, 1],
];
const PACKED_ENTRY_FIELDS: Field[] = [
  [PACKED_ENTRY_INFLIGHT, 1],
  [PACKED_ENTRY_NEXT, 2],
  [PACKED_ENTRY_LAST, 2],
  [PACKED_ENTRY_NUM, 2],
  [PACKED_ENTRY_COUNTER, 8],
  [PACKED_ENTRY_FLAGS, 2],
  [PACKED_ENTRY_LEN, 4],
  [PACKED_ENTRY_ADDR, 8],
];

/** Values at the limits of what a field may be, in a region for `entries` descriptors. */
function temptation(random: Random, entries: number): bigint {
  const limits = [0, 1, 2, entries - 1, entries, entries + 1, 0x7fff, 0x8000, 0xffff];
  return random.pick([
    ...limits.map(BigInt),
    2n ** 63n,
    2n ** 64n - 1n,
    BigInt(GUEST_GPA + random.below(DRIVER_SIZE)),
    BigInt(random.below(0x1_0000)),
  ]);
}

function writeField(region: DataView, [offset, width]: Field, value: bigint): void {
  if (width === 8) region.setBigUint64(offset, BigInt.asUintN(64, value), true);
  else if (width === 4) region.setUint32(offset, Number(BigInt.asUintN(32, value)), true);
  else if (width === 2) region.setUint16(offset, Number(BigInt.asUintN(16, value)), true);
  else region.setUint8(offset, Number(BigInt.asUintN(8, value)));
}

describe("an inflight region of garbage", () => {
  for (const shape of SHAPES) {
    test(`of random bytes starts clean or breaks ${nameOf(shape)}`, (t) => {
      const random = tellSeed(t);
      const scene = new Scene(shape, 8);
      let broken = 0;
      for (let i = 0; i < RANDOM_REGIONS; i++) {
        scene.prepare();
        const { region } = scene;
        const bytes = random.bytes(region.byteLength);
        new Uint8Array(region.buffer, region.byteOffset, region.byteLength).set(bytes);
        // Most get past the checks that come first.
        region.setUint16(INFLIGHT_REGION_VERSION, random.pick([1, 1, 1, 0, 2]), true);
        region.setUint16(INFLIGHT_DESC_NUM, random.pick([8, 8, 8, 8, 7]), true);
        if (scene.recover() !== 0) broken++;
      }
      t.diagnostic(`${broken} of ${RANDOM_REGIONS} broke the ring`);
    });

    test(`that was sound but for some fields starts clean or breaks ${nameOf(shape)}`, (t) => {
      const random = tellSeed(t);
      const scene = new Scene(shape, 8);
      const fields = fieldsOf(shape, 8);
      let broken = 0;
      for (let i = 0; i < RANDOM_REGIONS; i++) {
        scene.prepare();
        for (let changes = random.between(1, 6); changes > 0; changes--) {
          writeField(scene.region, random.pick(fields), temptation(random, 8));
        }
        if (scene.recover() !== 0) broken++;
      }
      t.diagnostic(`${broken} of ${RANDOM_REGIONS} broke the ring`);
    });

    test(`of another version breaks ${nameOf(shape)}`, () => {
      const scene = new Scene(shape);
      scene.prepare();
      scene.region.setUint16(INFLIGHT_REGION_VERSION, INFLIGHT_VERSION + 1, true);
      assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
    });

    test(`for another number of descriptors breaks ${nameOf(shape)}`, () => {
      const scene = new Scene(shape);
      scene.prepare();
      scene.region.setUint16(INFLIGHT_DESC_NUM, shape.size + 1, true);
      assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
    });

    test(`with equal and with huge counters does all of it on ${nameOf(shape)}`, () => {
      for (const counter of [7n, 2n ** 64n - 1n]) {
        const scene = new Scene(shape);
        scene.prepare();
        const start = shape.isPacked
          ? PACKED_ENTRIES + PACKED_ENTRY_COUNTER
          : SPLIT_ENTRIES + SPLIT_ENTRY_COUNTER;
        const stride = shape.isPacked ? PACKED_ENTRY_SIZE : SPLIT_ENTRY_SIZE;
        for (let i = 0; i < shape.size; i++) scene.region.setBigUint64(start + i * stride, counter, true);
        assert.equal(scene.recover(), 0);
        assert.equal(scene.driver.outstanding().length, 0, "requests lost");
      }
    });
  }
});

describe("an inflight region of a split ring", () => {
  const entry = (head: number) => SPLIT_ENTRIES + head * SPLIT_ENTRY_SIZE;

  test("with heads in flight past the ring is taken without them", () => {
    const scene = new Scene(SPLIT, 8);
    scene.prepare();
    for (let head = SPLIT.size; head < 8; head++)
      scene.region.setUint8(entry(head) + SPLIT_ENTRY_INFLIGHT, 1);
    assert.equal(scene.recover(), 0);
    assert.equal(scene.driver.outstanding().length, 0, "requests lost");
  });

  test("whose last batch runs in a circle comes to an end", () => {
    const scene = new Scene(SPLIT);
    scene.prepare();
    const { region } = scene;
    region.setUint16(SPLIT_USED_IDX, region.getUint16(SPLIT_USED_IDX, true) - SPLIT.size, true);
    for (let head = 0; head < SPLIT.size; head++)
      region.setUint16(entry(head) + SPLIT_ENTRY_NEXT, head, true);
    scene.recover();
  });

  test("whose last batch runs out of the region breaks the ring", () => {
    const scene = new Scene(SPLIT);
    scene.prepare();
    const { region } = scene;
    region.setUint16(SPLIT_USED_IDX, region.getUint16(SPLIT_USED_IDX, true) - 1, true);
    region.setUint16(SPLIT_LAST_BATCH_HEAD, SPLIT.size, true);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });

  test("whose last batch is larger than the ring breaks the ring", () => {
    const scene = new Scene(SPLIT);
    scene.prepare();
    const { region } = scene;
    region.setUint16(SPLIT_USED_IDX, region.getUint16(SPLIT_USED_IDX, true) - SPLIT.size - 1, true);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });
});

describe("an inflight region of a packed ring", () => {
  const { size } = PACKED;
  const entry = (index: number) => PACKED_ENTRIES + index * PACKED_ENTRY_SIZE;

  function prepared(): { scene: Scene; region: DataView; inFlight: number; free: number } {
    const scene = new Scene(PACKED);
    scene.prepare();
    const { region } = scene;
    const indices = Array.from({ length: size }, (_, index) => index);
    const inFlight = indices.find((index) => region.getUint8(entry(index) + PACKED_ENTRY_INFLIGHT) === 1)!;
    return { scene, region, inFlight, free: region.getUint16(PACKED_FREE_HEAD, true) };
  }

  test("whose free list runs in a circle breaks the ring", () => {
    const { scene, region, free } = prepared();
    region.setUint16(entry(free) + PACKED_ENTRY_NEXT, free, true);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });

  test("whose free list runs out of the region breaks the ring", () => {
    const { scene, region } = prepared();
    region.setUint16(PACKED_FREE_HEAD, size + 1, true);
    region.setUint16(PACKED_OLD_FREE_HEAD, size + 1, true);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });

  test("with a used position past the ring breaks the ring", () => {
    const { scene, region } = prepared();
    region.setUint16(PACKED_OLD_USED_IDX, size, true);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });

  test("with a wrap counter that is no bit breaks the ring", () => {
    const { scene, region } = prepared();
    region.setUint8(PACKED_USED_WRAP, 3);
    region.setUint8(PACKED_OLD_USED_WRAP, 3);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });

  test("with more descriptors in flight than the ring has breaks the ring", () => {
    const { scene, region, inFlight } = prepared();
    region.setUint16(entry(inFlight) + PACKED_ENTRY_NUM, 0xffff, true);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });

  test("with a chain in flight of no descriptors breaks the ring", () => {
    const { scene, region, inFlight } = prepared();
    region.setUint16(entry(inFlight) + PACKED_ENTRY_NUM, 0, true);
    assert.equal(scene.recover(), FAULT_INFLIGHT_REGION);
  });

  test("with a chain in flight that ends outside of the region keeps its stores within", () => {
    const { scene, region, inFlight } = prepared();
    region.setUint16(entry(inFlight) + PACKED_ENTRY_LAST, 0xffff, true);
    scene.recover();
  });

  test("with a buffer outside of guest memory breaks the ring", () => {
    const { scene, region, inFlight } = prepared();
    region.setUint16(entry(inFlight) + PACKED_ENTRY_FLAGS, 0, true);
    region.setBigUint64(entry(inFlight) + PACKED_ENTRY_ADDR, 16n, true);
    assert.equal(scene.recover(), FAULT_ADDRESS);
  });

  test("with an indirect table outside of guest memory breaks the ring", () => {
    const { scene, region, inFlight } = prepared();
    region.setUint16(entry(inFlight) + PACKED_ENTRY_FLAGS, VIRTQ_DESC_F_INDIRECT, true);
    region.setUint32(entry(inFlight) + PACKED_ENTRY_LEN, 32, true);
    region.setBigUint64(entry(inFlight) + PACKED_ENTRY_ADDR, 16n, true);
    region.setUint16(entry(inFlight) + PACKED_ENTRY_NUM, 1, true);
    assert.notEqual(scene.recover(), 0);
  });
});
