// How fast the core is by itself: reads go through it as fast as it takes them, and an engine that moves nothing
// completes each at once. So what is measured is step(), with as little around it as a loop in this language needs.

import * as layout from "../../assembly/abi/index.ts";
import * as uring from "../../assembly/spec/io-uring.ts";
import { BLK_HEADER_SIZE } from "../../assembly/spec/virtio-blk.ts";
import * as virtq from "../../assembly/spec/virtqueue.ts";
import { type Core, FIRST_FREE_PTR } from "./embedder.ts";

const WARM_UP_MS = 500;
const ROUND_MS = 500;
const ROUNDS = 5;
/** Turns between two looks at the clock. */
const TURNS = 2000;

const DEPTH = 64;
const CHAIN = 3;
const RING_SIZE = 256;
const READ_SIZE = 4096;
const GPA = 0x1_0000_0000;

const DESC = FIRST_FREE_PTR;
const DRIVER = DESC + 0x4000;
const DEVICE = DESC + 0x5000;
const FIRST_SLOT = DESC + 0x10000;
const SLOT_STRIDE = 0x2000;
const SLOT_STATUS = 16;
const SLOT_DATA = 0x1000;
export const SPEED_PAGES = Math.ceil((FIRST_SLOT + DEPTH * SLOT_STRIDE) / layout.WASM_PAGE_SIZE);

/** As indices of 32-bit words. */
const RINGS = layout.WORKERS_PTR + layout.WORKER_RINGS;
const SQ_HEAD = RINGS / 4;
const CQ_TAIL = RINGS / 4 + 4;
const CQES = (RINGS + 64) / 4;
const SQES = (layout.WORKERS_PTR + layout.WORKER_SQES) / 4;
const ENTRIES = 128;
const CQ_ENTRIES = 256;

/** Requests a second: the best of some rounds, since other work can only take away from it. */
export function measureSpeed(core: Core, buffer: ArrayBuffer): number {
  const view = new DataView(buffer);
  describeDisk(view);
  prepareRing(view);
  core.attachRings(
    RINGS,
    RINGS + 4,
    RINGS + 8,
    SQES * 4,
    ENTRIES,
    RINGS + 12,
    RINGS + 16,
    CQES * 4,
    CQ_ENTRIES,
  );
  core.openWorker(0, 1, DEPTH, -1);
  core.startQueue(0, RING_SIZE, 0, DESC, DRIVER, DEVICE, 0, -1, -1);
  const words = new Uint32Array(buffer);
  const halves = new Uint16Array(buffer);
  run(core, words, halves, WARM_UP_MS);
  return Math.max(...Array.from({ length: ROUNDS }, () => run(core, words, halves, ROUND_MS)));
}

function run(core: Core, words: Uint32Array, halves: Uint16Array, timeMs: number): number {
  const start = performance.now();
  let count = 0;
  let passedMs = 0;
  while (passedMs < timeMs) {
    for (let i = 0; i < TURNS; i++) count += turn(core, words, halves);
    passedMs = performance.now() - start;
  }
  return (count / passedMs) * 1000;
}

/** The driver makes all that was used available again; the core's operations complete. Returns how many there were. */
function turn(core: Core, words: Uint32Array, halves: Uint16Array): number {
  halves[(DRIVER + virtq.AVAIL_IDX) / 2] = halves[(DEVICE + virtq.USED_IDX) / 2]! + DEPTH;
  const count = core.step() & layout.STEP_SUBMIT_MASK;
  let head = words[SQ_HEAD]!;
  let tail = words[CQ_TAIL]!;
  for (let i = 0; i < count; i++, head++) {
    const sqe = SQES + ((head % ENTRIES) * uring.SQE_SIZE) / 4;
    // The read of the control descriptor waits for ever. Only requests have nothing in the high half.
    if (words[sqe + uring.SQE_USER_DATA / 4 + 1] !== 0) continue;
    const cqe = CQES + ((tail++ % CQ_ENTRIES) * uring.CQE_SIZE) / 4;
    words[cqe] = words[sqe + uring.SQE_USER_DATA / 4]!;
    words[cqe + 1] = 0;
    words[cqe + uring.CQE_RES / 4] = words[sqe + uring.SQE_LEN / 4]!;
  }
  words[SQ_HEAD] = head;
  words[CQ_TAIL] = tail;
  return count;
}

function describeDisk(view: DataView): void {
  view.setBigUint64(layout.DEVICE_PTR + layout.DEVICE_CAPACITY_SECTORS, 1n << 20n, true);
  view.setUint32(layout.DEVICE_PTR + layout.DEVICE_BLOCK_SECTORS, 1, true);
  for (const entry of [layout.REGION_TABLE_PTR, layout.WORKERS_PTR + layout.WORKER_WINDOW_TABLE]) {
    view.setBigUint64(entry + layout.ENTRY_GPA, BigInt(GPA), true);
    view.setBigUint64(entry + layout.ENTRY_LENGTH, BigInt(FIRST_SLOT + DEPTH * SLOT_STRIDE - DESC), true);
    view.setBigUint64(entry + layout.ENTRY_TARGET, BigInt(DESC), true);
  }
}

/** Each place of the avail ring has its slot for good: requests complete in order. */
function prepareRing(view: DataView): void {
  view.setUint16(DRIVER + virtq.AVAIL_FLAGS, virtq.VIRTQ_AVAIL_F_NO_INTERRUPT, true);
  for (let i = 0; i < RING_SIZE; i++) {
    const entry = DRIVER + virtq.AVAIL_RING + i * virtq.AVAIL_RING_ENTRY_SIZE;
    view.setUint16(entry, (i % DEPTH) * CHAIN, true);
  }
  for (let slot = 0; slot < DEPTH; slot++) {
    const gpa = GPA + (FIRST_SLOT - DESC) + slot * SLOT_STRIDE;
    const head = slot * CHAIN;
    const { VIRTQ_DESC_F_NEXT: next, VIRTQ_DESC_F_WRITE: write } = virtq;
    writeDescriptor(view, head, gpa, BLK_HEADER_SIZE, next);
    writeDescriptor(view, head + 1, gpa + SLOT_DATA, READ_SIZE, next | write);
    writeDescriptor(view, head + 2, gpa + SLOT_STATUS, 1, write);
  }
}

function writeDescriptor(view: DataView, index: number, gpa: number, length: number, flags: number): void {
  const desc = DESC + index * virtq.DESC_SIZE;
  view.setBigUint64(desc + virtq.DESC_ADDR, BigInt(gpa), true);
  view.setUint32(desc + virtq.DESC_LEN, length, true);
  view.setUint16(desc + virtq.DESC_FLAGS, flags, true);
  view.setUint16(desc + virtq.DESC_NEXT, index + 1, true);
}
