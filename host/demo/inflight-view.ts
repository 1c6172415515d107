// The inflight region, read for the eye and for words, once a successor has settled what was under way. Changes nothing.
import * as region from "../../assembly/spec/inflight.ts";
import type { RingConfig } from "./config.ts";
import { INFLIGHT_PTR } from "./memory-map.ts";

/** Tokens of the chains that are in flight, in the order they were taken. */
export function leftoversOf(view: DataView, config: RingConfig): number[] {
  const found = config.isPacked ? packedLeftovers(view, config.size) : splitLeftovers(view, config.size);
  return found.sort((a, b) => a.counter - b.counter).map(({ token }) => token);
}

/** For each entry of a packed ring's region, the token of the chain in flight that it belongs to. */
export function packedEntryTokens(view: DataView, size: number): (number | undefined)[] {
  const tokens: (number | undefined)[] = Array.from({ length: size });
  for (let first = 0; first < size; first++) {
    const at = packedEntry(first);
    if (view.getUint8(at) === 0) continue;
    const last = view.getUint16(at + region.PACKED_ENTRY_LAST, true);
    const token = last < size ? view.getUint16(packedEntry(last) + region.PACKED_ENTRY_ID, true) : undefined;
    const count = Math.min(size, view.getUint16(at + region.PACKED_ENTRY_NUM, true));
    for (let i = 0, entry = first; i < count && entry < size; i++) {
      tokens[entry] = token;
      entry = view.getUint16(packedEntry(entry) + region.PACKED_ENTRY_NEXT, true);
    }
  }
  return tokens;
}

interface Leftover {
  token: number;
  counter: number;
}

function splitLeftovers(view: DataView, size: number): Leftover[] {
  return Array.from({ length: size }, (_, entry) => entry)
    .filter((entry) => view.getUint8(splitEntry(entry)) !== 0)
    .map((entry) => ({ token: entry, counter: counterAt(view, splitEntry(entry)) }));
}

function packedLeftovers(view: DataView, size: number): Leftover[] {
  const tokens = packedEntryTokens(view, size);
  return Array.from({ length: size }, (_, entry) => entry)
    .filter((entry) => view.getUint8(packedEntry(entry)) !== 0)
    .map((entry) => ({ token: tokens[entry] ?? -1, counter: counterAt(view, packedEntry(entry)) }));
}

function counterAt(view: DataView, entry: number): number {
  return Number(view.getBigUint64(entry + region.SPLIT_ENTRY_COUNTER, true));
}

function splitEntry(index: number): number {
  return INFLIGHT_PTR + region.SPLIT_ENTRIES + index * region.SPLIT_ENTRY_SIZE;
}

function packedEntry(index: number): number {
  return INFLIGHT_PTR + region.PACKED_ENTRIES + index * region.PACKED_ENTRY_SIZE;
}
