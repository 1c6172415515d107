// Plays a script on a device, and compares all that a driver can see of it with the model.
import assert from "node:assert/strict";
import {
  BLK_HEADER_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import { NOTHING_USED, type Segment } from "../../host/driver/ring.ts";
import { encodeBlkHeader, encodeRanges } from "../../host/front-end/blk-driver.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { type BlockModel, type Outcome, overlap, type Sectors } from "./block-model.ts";
import { Allowance } from "./model-live.ts";
import type { Fate, Limit, RequestPlan, Step } from "./model-script.ts";

/** An operation that changed nothing, and whether the request must fail with it or may do without. */
export interface Refusal {
  sector: number;
  isError: boolean;
}

/** A device with one ring, and a driver's memory for it. */
export interface Device {
  readonly queue: Virtqueue;
  readonly model: BlockModel;
  /** Guest addresses of SLOT_SIZE bytes each, for one request at a time. */
  readonly slots: readonly number[];
  bytes(gpa: number, byteLength: number): Uint8Array;
  /** Serves what it was kicked for. */
  turn(): void;
  /** One operation comes to its end. Returns what the kernel refused, if it did. */
  complete(which: number, fate: Fate): Refusal | undefined;
  restart(): Promise<void>;
  /** Operations in flight may have been done all the same: bit i says so of the i-th. */
  crash(done: number): Promise<void>;
  /** Lets operations come to their ends until something is used. */
  wait(): Promise<void>;
  /** Whether the driver was called since the last time. */
  takeCall(): boolean;
  /** What the disk holds. */
  image(): Buffer;
}

/** One that can be limited, and that logs what it writes while its guest is moved. */
export interface LiveDevice extends Device {
  readonly nowNs: number;
  limit(limit: Limit): void;
  pass(ns: number): void;
  setMoved(isMoved: boolean): void;
  takeLog(): void;
}

export const SLOT_SIZE = 8192;
/** Whatever nobody writes holds this. */
const UNTOUCHED = 0xaa;
const GAP = 24;
const CUT_PARTS = 256;

interface Pending {
  name: string;
  type: number;
  slot: number;
  segments: Segment[];
  entries: number;
  outcome: Outcome;
  /** What the slot held before the device wrote to it. */
  before: Buffer;
  hasFailed: boolean;
  /** Its sectors may hold what they did, or what they should. */
  isAnything: boolean;
}

export class ModelRun {
  private readonly pending = new Map<number, Pending>();
  private readonly freeSlots: number[];
  private added = 0;
  private allowance: Allowance | undefined;

  constructor(private readonly device: Device | LiveDevice) {
    this.freeSlots = [...device.slots];
  }

  /** Throws where the device is not as the model says. Returns how many requests there were. */
  async play(steps: readonly Step[]): Promise<number> {
    const { device } = this;
    device.queue.ring.enableCalls();
    for (const step of steps) await this.step(step);
    this.kick();
    for (this.reap(); this.pending.size > 0; this.reap()) await device.wait();
    assert.equal(device.queue.ring.inFlight(), 0);
    assert.ok(device.image().equals(device.model.image), "the disk holds something else than the model");
    return this.added;
  }

  private async step(step: Step): Promise<void> {
    const { device } = this;
    switch (step.do) {
      case "add":
        this.add(step.request);
        break;
      case "kick":
        this.kick();
        break;
      case "complete":
        this.noteRefusal(device.complete(step.which, step.fate));
        break;
      case "reap":
        this.reap();
        break;
      case "restart":
        await device.restart();
        break;
      case "crash":
        await device.crash(step.done);
        break;
      default:
        this.stepLive(device as LiveDevice, step);
    }
  }

  private stepLive(device: LiveDevice, step: Step): void {
    switch (step.do) {
      case "limit":
        device.limit(step.limit);
        this.allowance = new Allowance(step.limit, device, this.pending.size);
        break;
      case "pass":
        device.pass(step.ns);
        break;
      case "move":
        device.setMoved(step.isMoved);
        break;
      case "take-log":
        device.takeLog();
        break;
    }
  }

  /** Does nothing if there is no room, or if another request in flight has some of its sectors: they have no order. */
  private add(plan: RequestPlan): void {
    const { queue, model } = this.device;
    const readable = this.readableBytes(plan);
    const writableLength = dataLength(plan) + (plan.hasStatus ? 1 : 0);
    const outcome = model.outcomeOf(readable, writableLength);
    const slot = this.freeSlots.at(-1);
    if (slot === undefined || this.isTaken(outcome.sectors)) return;
    const segments = layOut(plan, slot, readable.length, writableLength);
    const entries = plan.indirect ? 1 : segments.length;
    if (segments.length === 0 || segments.length > queue.size || entries > this.room) return;
    const before = this.fillSlot(slot, segments, readable);
    const name = `request ${this.added++} (type ${plan.type}, sector ${plan.sector})`;
    const token = queue.add(segments, { indirect: plan.indirect });
    this.freeSlots.pop();
    const fate = { hasFailed: false, isAnything: false };
    this.pending.set(token, { name, type: plan.type, slot, segments, entries, outcome, before, ...fate });
  }

  private get room(): number {
    const taken = [...this.pending.values()].reduce((sum, { entries }) => sum + entries, 0);
    return this.device.queue.size - taken;
  }

  private isTaken(sectors: readonly Sectors[]): boolean {
    const others = [...this.pending.values()].flatMap(({ outcome }) => outcome.sectors);
    return others.some((other) => sectors.some((each) => overlap(each, other)));
  }

  /** Data is unlike that of every other request. */
  private readableBytes(plan: RequestPlan): Buffer {
    const header = encodeBlkHeader(plan.type, plan.sector);
    if (plan.headerLacks > 0) return header.subarray(0, BLK_HEADER_SIZE - plan.headerLacks);
    if (plan.type === VIRTIO_BLK_T_OUT) {
      const data = Buffer.alloc(plan.byteLength, `${this.added} `);
      return Buffer.concat([header, data]);
    }
    if (plan.type !== VIRTIO_BLK_T_DISCARD && plan.type !== VIRTIO_BLK_T_WRITE_ZEROES) return header;
    const ranges = encodeRanges(plan.ranges);
    const half = plan.byteLength % 2 === 1 ? ranges.length - 8 : ranges.length;
    return Buffer.concat([header, ranges.subarray(0, Math.max(0, half))]);
  }

  private fillSlot(slot: number, segments: readonly Segment[], readable: Buffer): Buffer {
    const bytes = this.device.bytes(slot, SLOT_SIZE).fill(UNTOUCHED);
    let at = 0;
    for (const { gpa, length, writable } of segments) {
      if (writable) continue;
      bytes.set(readable.subarray(at, at + length), gpa - slot);
      at += length;
    }
    return Buffer.from(bytes);
  }

  private kick(): void {
    const { queue } = this.device;
    queue.publish();
    queue.kick();
    this.device.turn();
  }

  /** What a failed write has left of its sectors is anybody's guess. So is a discard, which is advice (5.2.6.2). */
  private noteRefusal(refusal: Refusal | undefined): void {
    if (refusal === undefined) return;
    const { sector, isError } = refusal;
    const range = { first: sector, count: 1 };
    const refused = [...this.pending.values()].find(({ outcome }) =>
      outcome.sectors.some((each) => overlap(each, range)),
    );
    assert.ok(refused !== undefined, `an operation at sector ${sector}, which nobody asked for`);
    if (isError) refused.hasFailed = true;
    if (isError || refused.type === VIRTIO_BLK_T_DISCARD) refused.isAnything = true;
  }

  private reap(): void {
    const { queue } = this.device;
    const isCalled = this.device.takeCall();
    assert.ok(isCalled || !queue.hasUsed(), "the device used a chain and made no call");
    do {
      for (let token = queue.popUsed(); token !== NOTHING_USED; token = queue.popUsed()) {
        this.check(this.pending.get(token)!, queue.usedLength);
        this.pending.delete(token);
      }
      queue.ring.enableCalls();
    } while (queue.hasUsed());
  }

  private check(request: Pending, usedLength: number): void {
    const { name, outcome, hasFailed, slot } = request;
    const status = hasFailed ? VIRTIO_BLK_S_IOERR : outcome.status;
    const data = status === VIRTIO_BLK_S_OK ? outcome.data : Buffer.alloc(0);
    assert.equal(usedLength, status === undefined ? 0 : data.length + 1, `${name}: used length`);
    if (status !== undefined) this.allowance?.count(request.type);
    const found = Buffer.from(this.device.bytes(slot, SLOT_SIZE));
    const expected = Buffer.from(request.before);
    const places = writableOffsets(request);
    if (status !== undefined) {
      const at = places.at(-1)!;
      assert.equal(found[at], status, `${name}: status`);
      expected[at] = status;
    }
    // What a read that failed has left in its buffers, nobody looks at.
    data.forEach((byte, i) => {
      expected[places[i]!] = byte;
    });
    if (hasFailed) for (const at of places) expected[at] = found[at]!;
    assert.ok(found.equals(expected), `${name}: memory differs at ${firstDifference(found, expected)}`);
    if (request.isAnything) this.believe(outcome.sectors);
    else if (status === VIRTIO_BLK_S_OK) outcome.apply();
    this.freeSlots.push(slot);
  }

  private believe(sectors: readonly Sectors[]): void {
    const { model } = this.device;
    const image = this.device.image();
    for (const { first, count } of sectors) {
      image.copy(model.image, first * SECTOR_SIZE, first * SECTOR_SIZE, (first + count) * SECTOR_SIZE);
    }
  }
}

/** How much the device may write, beside the status. */
function dataLength({ type, byteLength }: RequestPlan): number {
  if (type === VIRTIO_BLK_T_IN) return byteLength;
  return type === VIRTIO_BLK_T_GET_ID ? byteLength % 32 : 0;
}

/** One buffer after the other, cut where the plan says. */
function layOut(plan: RequestPlan, slot: number, readableLength: number, writableLength: number): Segment[] {
  const segments: Segment[] = [];
  let gpa = slot + GAP;
  const place = (total: number, cuts: readonly number[], writable: boolean) => {
    for (const length of cutAt(total, cuts)) {
      segments.push({ gpa, length, writable });
      gpa += length + (plan.touches ? 0 : GAP);
    }
    gpa += GAP;
  };
  place(readableLength, plan.readableCuts, false);
  place(writableLength, plan.writableCuts, true);
  return segments;
}

/** Lengths of the pieces, of which some may be empty. */
function cutAt(total: number, cuts: readonly number[]): number[] {
  if (total === 0) return [];
  const ends = cuts.map((cut) => Math.floor((total * cut) / CUT_PARTS)).sort((a, b) => a - b);
  return [...ends, total].map((end, i) => end - (ends[i - 1] ?? 0));
}

function writableOffsets({ segments, slot }: Pending): number[] {
  return segments
    .filter(({ writable }) => writable)
    .flatMap(({ gpa, length }) => Array.from({ length }, (_, i) => gpa - slot + i));
}

function firstDifference(a: Buffer, b: Buffer): number {
  return a.findIndex((byte, i) => byte !== b[i]);
}
