// The fields of shared memory by name: what the page draws, compares and tells of.
import * as region from "../../assembly/spec/inflight.ts";
import * as ring from "../../assembly/spec/virtqueue.ts";
import type { RingConfig } from "./config.ts";
import {
  DESC_GPA,
  DEVICE_GPA,
  DRIVER_GPA,
  INFLIGHT_PTR,
  ptrOfGpa,
  SLOT_SIZE,
  SLOTS_GPA,
} from "./memory-map.ts";
import { REQUESTS } from "./traced-core.ts";

export interface Field {
  /** Such as "used.ring[2].id": unique. */
  name: string;
  /** The same without numbers: "used.ring.id". */
  kind: string;
  /** The number in it, or -1. */
  index: number;
  ptr: number;
  byteLength: 1 | 2 | 4 | 8;
}

export function fieldsOf(config: RingConfig): Field[] {
  const fields = config.isPacked ? packedFields(config.size) : splitFields(config.size);
  const statuses = list(REQUESTS, "status", ptrOfGpa(SLOTS_GPA) + 0x10, SLOT_SIZE, [["", 0, 1]]);
  return [...fields, ...statuses].sort((a, b) => a.ptr - b.ptr);
}

export function readField(view: DataView, { ptr, byteLength }: Field): number {
  if (byteLength === 1) return view.getUint8(ptr);
  if (byteLength === 2) return view.getUint16(ptr, true);
  return byteLength === 4 ? view.getUint32(ptr, true) : Number(view.getBigUint64(ptr, true));
}

type Part = [name: string, offset: number, byteLength: Field["byteLength"]];

function one(prefix: string, ptr: number, parts: Part[]): Field[] {
  return parts.map(([part, offset, byteLength]) => {
    const name = `${prefix}.${part}`;
    return { name, kind: name, index: -1, ptr: ptr + offset, byteLength };
  });
}

function list(count: number, prefix: string, ptr: number, stride: number, parts: Part[]): Field[] {
  return Array.from({ length: count }, (_, index) =>
    parts.map(([part, offset, byteLength]) => {
      const suffix = part === "" ? "" : `.${part}`;
      const at = ptr + index * stride + offset;
      return { name: `${prefix}[${index}]${suffix}`, kind: prefix + suffix, index, ptr: at, byteLength };
    }),
  ).flat();
}

function splitFields(size: number): Field[] {
  const avail = ptrOfGpa(DRIVER_GPA);
  const used = ptrOfGpa(DEVICE_GPA);
  return [
    ...list(size, "desc", ptrOfGpa(DESC_GPA), ring.DESC_SIZE, [
      ["addr", ring.DESC_ADDR, 8],
      ["len", ring.DESC_LEN, 4],
      ["flags", ring.DESC_FLAGS, 2],
      ["next", ring.DESC_NEXT, 2],
    ]),
    ...one("avail", avail, [
      ["flags", ring.AVAIL_FLAGS, 2],
      ["idx", ring.AVAIL_IDX, 2],
      ["used_event", ring.AVAIL_RING + size * ring.AVAIL_RING_ENTRY_SIZE, 2],
    ]),
    ...list(size, "avail.ring", avail + ring.AVAIL_RING, ring.AVAIL_RING_ENTRY_SIZE, [["", 0, 2]]),
    ...one("used", used, [
      ["flags", ring.USED_FLAGS, 2],
      ["idx", ring.USED_IDX, 2],
      ["avail_event", ring.USED_RING + size * ring.USED_ELEM_SIZE, 2],
    ]),
    ...list(size, "used.ring", used + ring.USED_RING, ring.USED_ELEM_SIZE, [
      ["id", ring.USED_ELEM_ID, 4],
      ["len", ring.USED_ELEM_LEN, 4],
    ]),
    ...one("inflight", INFLIGHT_PTR, [
      ...INFLIGHT_HEADER,
      ["last_batch_head", region.SPLIT_LAST_BATCH_HEAD, 2],
      ["used_idx", region.SPLIT_USED_IDX, 2],
    ]),
    ...list(size, "entry", INFLIGHT_PTR + region.SPLIT_ENTRIES, region.SPLIT_ENTRY_SIZE, [
      ["inflight", region.SPLIT_ENTRY_INFLIGHT, 1],
      ["next", region.SPLIT_ENTRY_NEXT, 2],
      ["counter", region.SPLIT_ENTRY_COUNTER, 8],
    ]),
  ];
}

const INFLIGHT_HEADER: Part[] = [
  ["version", region.INFLIGHT_REGION_VERSION, 2],
  ["desc_num", region.INFLIGHT_DESC_NUM, 2],
];

function packedFields(size: number): Field[] {
  const event: Part[] = [
    ["off_wrap", ring.EVENT_OFF_WRAP, 2],
    ["flags", ring.EVENT_FLAGS, 2],
  ];
  return [
    ...list(size, "desc", ptrOfGpa(DESC_GPA), ring.PACKED_DESC_SIZE, [
      ["addr", ring.PACKED_DESC_ADDR, 8],
      ["len", ring.PACKED_DESC_LEN, 4],
      ["id", ring.PACKED_DESC_ID, 2],
      ["flags", ring.PACKED_DESC_FLAGS, 2],
    ]),
    ...one("driver", ptrOfGpa(DRIVER_GPA), event),
    ...one("device", ptrOfGpa(DEVICE_GPA), event),
    ...one("inflight", INFLIGHT_PTR, [
      ...INFLIGHT_HEADER,
      ["free_head", region.PACKED_FREE_HEAD, 2],
      ["old_free_head", region.PACKED_OLD_FREE_HEAD, 2],
      ["used_idx", region.PACKED_USED_IDX, 2],
      ["old_used_idx", region.PACKED_OLD_USED_IDX, 2],
      ["used_wrap", region.PACKED_USED_WRAP, 1],
      ["old_used_wrap", region.PACKED_OLD_USED_WRAP, 1],
    ]),
    ...list(size, "entry", INFLIGHT_PTR + region.PACKED_ENTRIES, region.PACKED_ENTRY_SIZE, [
      ["inflight", region.PACKED_ENTRY_INFLIGHT, 1],
      ["next", region.PACKED_ENTRY_NEXT, 2],
      ["last", region.PACKED_ENTRY_LAST, 2],
      ["num", region.PACKED_ENTRY_NUM, 2],
      ["counter", region.PACKED_ENTRY_COUNTER, 8],
      ["id", region.PACKED_ENTRY_ID, 2],
      ["flags", region.PACKED_ENTRY_FLAGS, 2],
      ["len", region.PACKED_ENTRY_LEN, 4],
      ["addr", region.PACKED_ENTRY_ADDR, 8],
    ]),
  ];
}
