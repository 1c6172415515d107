// The guest's side of a ring, as far as both formats are alike.

/** One buffer of a chain. */
export interface Segment {
  gpa: number;
  byteLength: number;
  isWritable: boolean;
}

export interface Used {
  token: number;
  byteLength: number;
}

/** Ways to write into a ring what no driver should. */
export type Mischief = "head" | "loop" | "address" | "table";

export interface RingDriver {
  /** What SET_VRING_BASE says of a ring that was never used. */
  readonly initialBase: number;
  readonly freeCount: number;
  /** Whether chains lie in the ring that the device may not know of: published, and no kick considered since. */
  readonly owesKick: boolean;
  /** Writes a chain, or one descriptor that points to a table at `tableGpa`, and makes it available. Returns its token. */
  add(segments: readonly Segment[], serial: number, tableGpa?: number): number;
  /** Whether the device wants to be told of what became available since this was last asked. */
  needsKick(): boolean;
  hasUsed(): boolean;
  popUsed(): Used;
  /** Tokens of the chains that the device has given back and the driver has not taken yet. */
  usedTokens(): number[];
  /** Asks for a call at the next used chain. */
  enableCalls(): void;
  misbehave(mischief: Mischief): void;
  /** The request that a place of the descriptor table, the avail ring or the used ring is about, now or last. */
  ownerOfDescriptor(index: number): number | undefined;
  ownerOfAvail(slot: number): number | undefined;
  ownerOfToken(token: number): number | undefined;
  /** Places that the driver may write anew. */
  isFree(index: number): boolean;
  /** Where the driver goes on: for the reader's eye. */
  readonly position: { avail: number; used: number; availWrap?: number; usedWrap?: number };
}

/** vring_need_event() (virtio 1.4, 2.7.10): whether moving from `before` to `after` passed `event`. */
export function passedEvent(event: number, after: number, before: number): boolean {
  return ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);
}

/** Past all guest memory. */
export const NOWHERE_GPA = 0xdead_0000;
