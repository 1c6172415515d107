// The kinds of request that a disk has, in the order in which the core counts them.
import type { RequestKind } from "../device.ts";

/** Those that are timed and that an engine can fail, in the same order. */
export const TIMED_KINDS = ["read", "write", "flush", "discard", "writeZeroes"] as const;

export const BLOCK_KINDS: readonly RequestKind[] = [
  { name: "read", count: "reads", data: { direction: "in", count: "readBytes" }, isTimed: true },
  { name: "write", count: "writes", data: { direction: "out", count: "writtenBytes" }, isTimed: true },
  { name: "flush", count: "flushes", isTimed: true },
  { name: "discard", count: "discards", isTimed: true },
  { name: "writeZeroes", count: "writeZeroes", isTimed: true },
  { name: "getId", count: "ids", isTimed: false },
];
