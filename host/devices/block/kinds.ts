// The kinds of request that a disk has, in the order in which the core counts them.
import type { RequestKind } from "../device.ts";

export const BLOCK_KINDS: readonly RequestKind[] = [
  { name: "read", count: "reads", data: { direction: "in", count: "readBytes" }, isTimed: true },
  { name: "write", count: "writes", data: { direction: "out", count: "writtenBytes" }, isTimed: true },
  { name: "flush", count: "flushes", isTimed: true },
  { name: "discard", count: "discards", isTimed: true },
  { name: "writeZeroes", count: "writeZeroes", isTimed: true },
  { name: "getId", count: "ids", isTimed: false },
];
