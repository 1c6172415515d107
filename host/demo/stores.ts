// What a store of the core means: which fields it changed, in a few words, and the clause that asks for it.

import { PACKED_USED_IDX } from "../../assembly/spec/inflight.ts";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP } from "../../assembly/spec/virtio-blk.ts";
import type { Field } from "./fields.ts";
import { STATUS_UNWRITTEN } from "./guest.ts";
import { INFLIGHT_PTR } from "./memory-map.ts";
import type { Store } from "./traced-core.ts";

/** One line of the log. */
export interface Line {
  /** What stands in memory after it, such as "used.idx = 3". */
  code?: string;
  text: string;
  clause?: string;
}

export interface Change {
  field: Field;
  before: number;
  after: number;
}

/** The fields that a store changed; if it changed none, the one that it wrote again. */
export function changesOf({ ptr, before, after }: Store, fields: readonly Field[]): Change[] {
  const written = fields
    .filter((field) => field.ptr >= ptr && field.ptr + field.byteLength <= ptr + 8)
    .map((field) => ({ field, before: part(before, field, ptr), after: part(after, field, ptr) }));
  const changed = written.filter((change) => change.before !== change.after);
  return changed.length > 0 ? changed : written.filter(({ field }) => field.ptr === ptr);
}

function part(bytes: bigint, { ptr, byteLength }: Field, from: number): number {
  return Number(BigInt.asUintN(byteLength * 8, bytes >> BigInt((ptr - from) * 8)));
}

/** "Inflight I/O tracking" in the vhost-user text. */
export const INFLIGHT_CLAUSE = "vhost-user, inflight";

type Meaning = [text: string | ((change: Change, changes: readonly Change[]) => string), clause?: string];

const MEANINGS: Record<string, Meaning> = {
  "used.ring.id": [({ after }) => `gives chain ${after} back`, "virtio 2.7.8"],
  "used.ring.len": ["says how many bytes it wrote into the chain", "virtio 2.7.8"],
  "used.idx": ["publishes: from here on the driver sees what was given back", "virtio 2.7.8.2"],
  "used.flags": [
    ({ after }) => (after === 0 ? "asks for kicks again" : "asks for no kicks while it is at work"),
    "virtio 2.7.10",
  ],
  "used.avail_event": [
    ({ after }) => `asks for a kick when chain number ${after} becomes available`,
    "virtio 2.7.10",
  ],
  "desc.len": ["says how many bytes it wrote into the chain", "virtio 2.8.22"],
  "desc.id": [({ after }) => `gives buffer ${after} back, in the next used place`, "virtio 2.8.22"],
  "desc.flags": [
    "marks the descriptor: from these bits the driver tells used from available",
    "virtio 2.8.1",
  ],
  "device.off_wrap": [
    ({ after }) => `asks for a kick when slot ${after & 0x7fff} becomes available`,
    "virtio 2.8.10",
  ],
  "device.flags": [
    ({ after }) =>
      ["asks for every kick", "asks for no kicks while it is at work", "asks for a kick at one slot"][
        after
      ] ?? "",
    "virtio 2.8.10",
  ],
  status: [({ after }) => `writes the status: ${statusName(after)}`, "virtio 5.2.6"],
  "inflight.version": [
    ({ after }) => (after === 0 ? "begins a new region" : "the region counts from here on"),
    INFLIGHT_CLAUSE,
  ],
  "inflight.desc_num": ["notes how many entries the region has", INFLIGHT_CLAUSE],
  "inflight.last_batch_head": [
    "the batch that is being given back now begins with this chain",
    INFLIGHT_CLAUSE,
  ],
  "inflight.free_head": [(_, changes) => freeHeadMeaning(changes), INFLIGHT_CLAUSE],
  "inflight.old_free_head": ["commits the free list: those entries may be taken again", INFLIGHT_CLAUSE],
  "inflight.used_idx": [usedMeaning, INFLIGHT_CLAUSE],
  "inflight.used_wrap": ["stages how far the ring will be used", INFLIGHT_CLAUSE],
  "inflight.old_used_idx": ["commits: the record has caught up with the ring", INFLIGHT_CLAUSE],
  "inflight.old_used_wrap": ["commits: the record has caught up with the ring", INFLIGHT_CLAUSE],
  "entry.inflight": [
    ({ after }) =>
      after === 1
        ? "records the chain as taken, before anything is done for it: a successor would do it again"
        : "takes the chain off the record",
    INFLIGHT_CLAUSE,
  ],
  "entry.counter": ["notes in which order the chain was taken", INFLIGHT_CLAUSE],
  "entry.next": ["links the chain to the batch that is being given back", INFLIGHT_CLAUSE],
  "entry.last": ["notes the last entry of the chain", INFLIGHT_CLAUSE],
  "entry.num": ["notes how many descriptors the chain has", INFLIGHT_CLAUSE],
  "entry.id": ["copies the descriptor, which the ring will not keep: its id", INFLIGHT_CLAUSE],
  "entry.flags": ["copies the descriptor: its flags", INFLIGHT_CLAUSE],
  "entry.len": ["copies the descriptor: its length", INFLIGHT_CLAUSE],
  "entry.addr": ["copies the descriptor: its address", INFLIGHT_CLAUSE],
};

function freeHeadMeaning(changes: readonly Change[]): string {
  return changes.some(({ field }) => field.name === "inflight.old_free_head")
    ? "takes those entries off the free list: from here on a successor would do the chain again"
    : "stages the entries' return to the free list, while old_free_head still keeps them";
}

function usedMeaning({ field }: Change): string {
  return field.ptr === INFLIGHT_PTR + PACKED_USED_IDX
    ? "stages how far the ring will be used, while old_used_idx still says how far it is"
    : "commits: the record has caught up with the ring";
}

/** A line for a store. */
export function describeStore(changes: readonly Change[]): Line {
  const first = changes[0];
  if (first === undefined) return { text: "stores something of which the page knows nothing" };
  const [text, clause] = MEANINGS[first.field.kind] ?? ["writes it"];
  const code = changes.map(({ field, after }) => `${field.name} = ${formatValue(field, after)}`).join(", ");
  const words = typeof text === "string" ? text : text(first, changes);
  return clause === undefined ? { code, text: words } : { code, text: words, clause };
}

export function formatValue({ kind }: Field, value: number): string {
  if (kind.endsWith("addr")) return hex(value);
  if (kind.endsWith("off_wrap")) return `${value & 0x7fff} wrap ${value >> 15}`;
  if (kind === "desc.flags" || kind === "entry.flags") return flagNames(value);
  return kind === "status" ? statusName(value) : String(value);
}

const FLAGS: readonly [bit: number, name: string][] = [
  [1, "NEXT"],
  [2, "WRITE"],
  [4, "INDIRECT"],
  [0x80, "AVAIL"],
  [0x8000, "USED"],
];

export function flagNames(flags: number): string {
  const names = FLAGS.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
  return names.length === 0 ? "0" : names.join("|");
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

export function statusName(status: number): string {
  const names = new Map([
    [VIRTIO_BLK_S_OK, "OK"],
    [VIRTIO_BLK_S_IOERR, "IOERR"],
    [VIRTIO_BLK_S_UNSUPP, "UNSUPP"],
    [STATUS_UNWRITTEN, "not written yet"],
  ]);
  return names.get(status) ?? String(status);
}
