// Scripts for a driver and its device, at random, as fast-check makes them and makes them smaller.
import fc from "fast-check";
import {
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";

export const CAPACITY = 256;

export interface Setup {
  packed: boolean;
  eventIdx: boolean;
  size: number;
  readOnly: boolean;
  writeThrough: boolean;
}

interface Range {
  sector: bigint;
  sectors: number;
  flags: number;
}

export interface RequestPlan {
  type: number;
  sector: bigint;
  /** Data bytes: to write behind the header, or to read before the status. */
  byteLength: number;
  /** What a discard or write zeroes has instead. */
  ranges: Range[];
  /** Bytes that the header lacks; the chain ends with them. */
  headerLacks: number;
  hasStatus: boolean;
  /** Where readable and writable bytes are cut into buffers, in parts of 256. */
  readableCuts: number[];
  writableCuts: number[];
  /** Whether buffers touch. */
  touches: boolean;
  indirect: boolean;
}

/** What the kernel makes of an operation. */
export type Fate = "done" | "short" | "again" | "unsupported" | "error";

/** On requests of all kinds that limits count; without a price there is none. */
export interface Limit {
  priceNs: number;
  roomNs: number;
}

export type Step =
  | { do: "add"; request: RequestPlan }
  | { do: "kick" }
  | { do: "complete"; which: number; fate: Fate }
  | { do: "reap" }
  | { do: "restart" }
  /** Operations in flight that are done all the same: bit i for the i-th. */
  | { do: "crash"; done: number }
  | { do: "limit"; limit: Limit }
  | { do: "pass"; ns: number }
  | { do: "move"; isMoved: boolean }
  /** The front-end of a guest that is moved takes the log. */
  | { do: "take-log" };

export interface Script {
  setup: Setup;
  steps: Step[];
}

const setup: fc.Arbitrary<Setup> = fc
  .record({
    packed: fc.boolean(),
    eventIdx: fc.boolean(),
    size: fc.constantFrom(4, 8),
    oddSize: fc.constantFrom(4, 5, 7, 12),
    readOnly: fc.nat(7).map((value) => value === 7),
    writeThrough: fc.boolean(),
  })
  .map(({ oddSize, ...rest }) => ({ ...rest, size: rest.packed ? oddSize : rest.size }));

const sector = fc.oneof(
  { weight: 8, arbitrary: fc.bigInt(0n, BigInt(CAPACITY - 1)) },
  { weight: 1, arbitrary: fc.constantFrom(BigInt(CAPACITY), 2n ** 55n, 2n ** 63n, 2n ** 64n - 1n) },
);

const byteLength = fc.oneof(
  { weight: 8, arbitrary: fc.nat(6).map((sectors) => sectors * 512) },
  { weight: 1, arbitrary: fc.nat(1025) },
);

const range: fc.Arbitrary<Range> = fc.record({
  sector,
  sectors: fc.oneof(
    { weight: 8, arbitrary: fc.nat(8) },
    { weight: 1, arbitrary: fc.constantFrom(0xffff_ffff) },
  ),
  flags: fc.oneof({ weight: 8, arbitrary: fc.constantFrom(0, 1) }, { weight: 1, arbitrary: fc.nat(4) }),
});

const cuts = fc.array(fc.nat(256), { maxLength: 2 });

const request: fc.Arbitrary<RequestPlan> = fc.record({
  type: fc.constantFrom(
    VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_T_GET_ID,
    99,
  ),
  sector,
  byteLength,
  ranges: fc.array(range, { maxLength: 3 }),
  headerLacks: fc.oneof(
    { weight: 20, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 16 }) },
  ),
  hasStatus: fc.oneof({ weight: 20, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.boolean() }),
  readableCuts: cuts,
  writableCuts: cuts,
  touches: fc.boolean(),
  indirect: fc.boolean(),
});

const limit: fc.Arbitrary<Limit> = fc.record({
  priceNs: fc.constantFrom(0, 1e6, 20e6, 200e6),
  roomNs: fc.constantFrom(0, 10e6, 1e9),
});

const ofLiveDevices: fc.Arbitrary<Step>[] = [
  limit.map((limit): Step => ({ do: "limit", limit })),
  fc.constantFrom(1e3, 1e6, 20e6, 1e9).map((ns): Step => ({ do: "pass", ns })),
  fc.nat(3).map((n): Step => ({ do: "move", isMoved: n > 0 })),
  fc.constant<Step>({ do: "take-log" }),
];

function step(crashes: boolean, isLive: boolean): fc.Arbitrary<Step> {
  const fate = fc.constantFrom<Fate>("done", "done", "done", "short", "again", "unsupported", "error");
  return fc.oneof(
    { weight: 8, arbitrary: request.map((request): Step => ({ do: "add", request })) },
    { weight: 4, arbitrary: fc.constant<Step>({ do: "kick" }) },
    { weight: 8, arbitrary: fc.record({ do: fc.constant("complete" as const), which: fc.nat(15), fate }) },
    { weight: 3, arbitrary: fc.constant<Step>({ do: "reap" }) },
    { weight: 1, arbitrary: fc.constant<Step>({ do: "restart" }) },
    {
      weight: crashes ? 1 : 0,
      arbitrary: fc.record({ do: fc.constant("crash" as const), done: fc.nat(0xffff) }),
    },
    ...ofLiveDevices.map((arbitrary) => ({ weight: isLive ? 1 : 0, arbitrary })),
  );
}

/** `isLive`: with what only a LiveDevice has. */
export function scripts(stepsMax: number, { crashes = true, isLive = false } = {}): fc.Arbitrary<Script> {
  return fc.record({ setup, steps: fc.array(step(crashes, isLive), { maxLength: stepsMax, size: "max" }) });
}
