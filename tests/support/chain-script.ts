// Scripts for a driver and a device of chains, at random, as fast-check makes them and makes them smaller.
import fc from "fast-check";
import type { Recovery } from "./chain-device.ts";

export interface ChainSetup {
  packed: boolean;
  eventIdx: boolean;
  size: number;
  recovery: Recovery;
  /** Whether chains are taken for credit alone. */
  hasCredit: boolean;
  /** Whether what is in flight is recorded. */
  isTracked: boolean;
}

export interface ChainPlan {
  /** Lengths of buffers, of which some are 0. */
  readable: number[];
  writable: number[];
  /** Whether buffers touch. */
  touches: boolean;
  indirect: boolean;
}

/** What the device makes of a chain: a length, in parts of 256 of the room; an errno; or a wait. */
export type Answer = { kind: "used"; share: number } | { kind: "failed" } | { kind: "parked" };

export type ChainStep =
  | { do: "add"; chain: ChainPlan }
  | { do: "kick" }
  /** So many more, or so many from now on. */
  | { do: "credit"; count: number; isAdded: boolean }
  | { do: "answer"; which: number; answer: Answer }
  | { do: "reap" }
  | { do: "restart" }
  /** The ring stops without waiting for what can be taken back, and starts again. */
  | { do: "suspend" }
  | { do: "crash" };

export interface ChainScript {
  setup: ChainSetup;
  steps: ChainStep[];
}

const setup: fc.Arbitrary<ChainSetup> = fc
  .record({
    packed: fc.boolean(),
    eventIdx: fc.boolean(),
    size: fc.constantFrom(4, 8),
    oddSize: fc.constantFrom(4, 5, 7, 12),
    recovery: fc.constantFrom<Recovery>("repeat", "fail", "forget"),
    hasCredit: fc.boolean(),
    isTracked: fc.nat(3).map((value) => value > 0),
  })
  .map(({ oddSize, ...rest }) => ({ ...rest, size: rest.packed ? oddSize : rest.size }));

const lengths = fc.array(fc.oneof(fc.constantFrom(0, 1), fc.nat(900)), { maxLength: 3 });

const chain: fc.Arbitrary<ChainPlan> = fc
  .record({ readable: lengths, writable: lengths, touches: fc.boolean(), indirect: fc.boolean() })
  .filter(({ readable, writable }) => readable.length + writable.length > 0);

const answer: fc.Arbitrary<Answer> = fc.oneof(
  // Some say more than there was room for.
  { weight: 5, arbitrary: fc.nat(300).map((share): Answer => ({ kind: "used", share })) },
  { weight: 1, arbitrary: fc.constant<Answer>({ kind: "failed" }) },
  { weight: 2, arbitrary: fc.constant<Answer>({ kind: "parked" }) },
);

const step: fc.Arbitrary<ChainStep> = fc.oneof(
  { weight: 8, arbitrary: chain.map((chain): ChainStep => ({ do: "add", chain })) },
  { weight: 5, arbitrary: fc.constant<ChainStep>({ do: "kick" }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("credit" as const), count: fc.nat(5), isAdded: fc.boolean() }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("answer" as const), which: fc.nat(15), answer }) },
  { weight: 3, arbitrary: fc.constant<ChainStep>({ do: "reap" }) },
  { weight: 1, arbitrary: fc.constant<ChainStep>({ do: "restart" }) },
  { weight: 1, arbitrary: fc.constant<ChainStep>({ do: "suspend" }) },
  { weight: 1, arbitrary: fc.constant<ChainStep>({ do: "crash" }) },
);

export function chainScripts(stepsMax: number): fc.Arbitrary<ChainScript> {
  return fc.record({ setup, steps: fc.array(step, { maxLength: stepsMax, size: "max" }) });
}
