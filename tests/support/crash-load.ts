// A load on one queue that goes on through crashes of the back-end: whatever it submits must complete once, and well.
import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";
import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_SIZE,
  BLK_HEADER_TYPE,
  RANGE_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import { NOTHING_USED, type Segment } from "../../host/driver/ring.ts";
import { encodeRanges } from "../../host/front-end/blk-driver.ts";
import type { Memory } from "../../host/front-end/memory.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";
import type { Random } from "./random.ts";
import { fillSectors, type SectorModel, ZEROES } from "./sector-model.ts";
import { until } from "./until.ts";

export interface CrashLoadOptions {
  random: Random;
  depth: number;
  /** Whether indirect tables were negotiated. */
  indirect: boolean;
  /** The most sectors that a request has. */
  sectorsMax?: number;
  /** Leaves out discards, which may do nothing on some storage. */
  noDiscards?: boolean;
}

/** Room for one request, and the request that is in it. */
interface Slot {
  header: DataView;
  headerGpa: number;
  dataGpa: number;
  words: Uint32Array;
  bytes: Uint8Array;
  status: Uint8Array;
  statusGpa: number;
  /** Counts requests over the load, from 1; 0: the slot is free. */
  number: number;
  /** Descriptors of the ring. */
  descriptors: number;
  type: number;
  sector: number;
  sectors: number;
}

const SECTORS_MAX = 16;
const PIECES_MAX = 4;
const STATUS_UNWRITTEN = 0xff;
const CLAIM_TRIES = 20;
const WAIT_MS = 50;

/** A request that the back-end, though it was there, did not complete. */
export class LostRequest extends Error {}

export class CrashLoad {
  submitted = 0;
  completed = 0;
  /** The first failure; after it the load stands still. */
  failure: Error | undefined;
  /** Called at each completion. */
  onCompletion: (() => void) | undefined;
  private readonly slots: Slot[];
  private readonly free: Slot[];
  private readonly slotOf: (Slot | undefined)[] = [];
  private freeDescriptors: number;
  private isPaused = true;
  private isEnded = false;
  private readonly pumping: Promise<void>;

  constructor(
    private readonly memory: Memory,
    readonly queue: Virtqueue,
    private readonly model: SectorModel,
    private readonly options: CrashLoadOptions,
  ) {
    this.slots = Array.from({ length: options.depth }, () => this.makeSlot());
    this.free = [...this.slots];
    this.freeDescriptors = queue.size;
    this.pumping = this.pump().catch((error: Error) => {
      this.failure = error;
    });
  }

  get inFlight(): number {
    return this.slots.length - this.free.length;
  }

  /** Keeps `depth` requests in flight until paused. */
  resume(): void {
    this.isPaused = false;
  }

  /** Submits nothing more. */
  pause(): void {
    this.isPaused = true;
  }

  /** Fills every free slot at once: one batch, one kick. */
  burst(): void {
    this.fill();
  }

  /** Resolves once all requests up to this one of the load have completed. */
  async completedUpTo(number: number, timeoutMs: number): Promise<void> {
    const isDone = () => this.slots.every((slot) => slot.number === 0 || slot.number > number);
    await until(() => isDone() || this.failure !== undefined, "", timeoutMs).catch(() => {
      const lost = this.slots.filter((slot) => slot.number !== 0 && slot.number <= number);
      const which = lost.map(({ type, sector, sectors }) => `type ${type} at ${sector}+${sectors}`);
      this.failure = new LostRequest(`${lost.length} not completed in ${timeoutMs} ms: ${which.join(", ")}`);
    });
    if (this.failure) throw this.failure;
  }

  async end(): Promise<void> {
    this.isEnded = true;
    await this.pumping;
  }

  private makeSlot(): Slot {
    const { memory } = this;
    const byteLength = (this.options.sectorsMax ?? SECTORS_MAX) * SECTOR_SIZE;
    const [headerGpa, dataGpa, statusGpa] = [BLK_HEADER_SIZE, byteLength, 1].map((size) =>
      memory.allocate(size),
    );
    return {
      header: new DataView(memory.view(headerGpa!, BLK_HEADER_SIZE)),
      headerGpa: headerGpa!,
      dataGpa: dataGpa!,
      words: new Uint32Array(memory.view(dataGpa!, byteLength)),
      bytes: memory.bytes(dataGpa!, byteLength),
      status: memory.bytes(statusGpa!, 1),
      statusGpa: statusGpa!,
      number: 0,
      descriptors: 0,
      type: VIRTIO_BLK_T_FLUSH,
      sector: 0,
      sectors: 0,
    };
  }

  private async pump(): Promise<void> {
    while (!this.isEnded) {
      this.reap();
      if (!this.isPaused) this.fill();
      await this.queue.wait(WAIT_MS);
      // What is used at once leaves no turn to timers and sockets otherwise.
      await nextTurn();
    }
  }

  private fill(): void {
    if (this.free.length === 0) return;
    for (let slot = this.free.pop(); slot !== undefined; slot = this.free.pop()) this.submit(slot);
    this.queue.publish();
    this.queue.kick();
  }

  private submit(slot: Slot): void {
    slot.number = ++this.submitted;
    this.choose(slot);
    slot.header.setUint32(BLK_HEADER_TYPE, slot.type, true);
    slot.header.setBigUint64(BLK_HEADER_SECTOR, BigInt(hasSector(slot.type) ? slot.sector : 0), true);
    slot.status[0] = STATUS_UNWRITTEN;
    const segments = [
      { gpa: slot.headerGpa, length: BLK_HEADER_SIZE, writable: false },
      ...this.dataSegments(slot),
      { gpa: slot.statusGpa, length: 1, writable: true },
    ];
    const { random, indirect } = this.options;
    // Every other slot must still find room.
    const hasRoom = segments.length <= this.freeDescriptors - this.free.length;
    const isIndirect = indirect && (!hasRoom || random.below(2) === 0);
    slot.descriptors = isIndirect ? 1 : segments.length;
    this.freeDescriptors -= slot.descriptors;
    const token = this.queue.add(segments, { indirect: isIndirect });
    this.slotOf[token] = slot;
  }

  private choose(slot: Slot): void {
    const { random, sectorsMax = SECTORS_MAX } = this.options;
    slot.type = pickType(random, this.options.noDiscards);
    slot.sectors = random.between(1, sectorsMax);
    slot.sector = random.below(this.model.sectors - slot.sectors);
    for (let tries = 0; slot.type !== VIRTIO_BLK_T_FLUSH; tries++) {
      if (this.model.claim(slot.sector, slot.sectors)) break;
      if (tries === CLAIM_TRIES) slot.type = VIRTIO_BLK_T_FLUSH;
      slot.sector = random.below(this.model.sectors - slot.sectors);
    }
    if (slot.type === VIRTIO_BLK_T_OUT) {
      const write = this.model.nextWrite();
      fillSectors(this.dataWords(slot), slot.sector, write);
      this.model.expect(slot.sector, slot.sectors, write);
    } else if (isZeroing(slot.type)) {
      slot.bytes.set(encodeRanges([{ sector: slot.sector, sectors: slot.sectors }]));
      this.model.expect(slot.sector, slot.sectors, ZEROES);
    } else if (slot.type === VIRTIO_BLK_T_IN) {
      slot.bytes.fill(STATUS_UNWRITTEN, 0, slot.sectors * SECTOR_SIZE);
    }
  }

  private dataSegments({ type, dataGpa, sectors }: Slot): Segment[] {
    if (type === VIRTIO_BLK_T_FLUSH) return [];
    const writable = type === VIRTIO_BLK_T_IN;
    if (isZeroing(type)) return [{ gpa: dataGpa, length: RANGE_SIZE, writable }];
    const { random } = this.options;
    // Without indirect tables a request must fit its share of the ring.
    const share = Math.floor(this.queue.size / this.slots.length) - 2;
    const piecesMax = this.options.indirect ? PIECES_MAX : Math.max(1, Math.min(PIECES_MAX, share));
    let gpa = dataGpa;
    return random.cut(sectors * SECTOR_SIZE, random.between(1, piecesMax)).map((length) => {
      const segment = { gpa, length, writable };
      gpa += length;
      return segment;
    });
  }

  private reap(): void {
    for (let token = this.queue.popUsed(); token !== NOTHING_USED; token = this.queue.popUsed()) {
      const slot = this.slotOf[token]!;
      this.slotOf[token] = undefined;
      this.complete(slot, this.queue.usedLength);
    }
  }

  private complete(slot: Slot, usedLength: number): void {
    const { type, sector, sectors } = slot;
    const what = `type ${type} at ${sector}+${sectors}`;
    assert.equal(slot.status[0], VIRTIO_BLK_S_OK, `${what}: status ${slot.status[0]}`);
    const read = type === VIRTIO_BLK_T_IN ? sectors * SECTOR_SIZE : 0;
    assert.equal(usedLength, read + 1, `${what}: used length ${usedLength}`);
    if (type === VIRTIO_BLK_T_IN) this.model.check(this.dataWords(slot), sector, "a read");
    else if (type !== VIRTIO_BLK_T_FLUSH) this.model.settle(sector, sectors);
    if (type !== VIRTIO_BLK_T_FLUSH) this.model.release(sector, sectors);
    slot.number = 0;
    this.freeDescriptors += slot.descriptors;
    this.free.push(slot);
    this.completed++;
    this.onCompletion?.();
  }

  private dataWords({ words, sectors }: Slot): Uint32Array {
    return words.subarray(0, (sectors * SECTOR_SIZE) / 4);
  }
}

function pickType(random: Random, noDiscards = false): number {
  const roll = random.below(100);
  if (roll < 55) return VIRTIO_BLK_T_OUT;
  if (roll < 85) return VIRTIO_BLK_T_IN;
  if (roll < 90) return VIRTIO_BLK_T_FLUSH;
  return roll < 95 && !noDiscards ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES;
}

function isZeroing(type: number): boolean {
  return type === VIRTIO_BLK_T_DISCARD || type === VIRTIO_BLK_T_WRITE_ZEROES;
}

function hasSector(type: number): boolean {
  return type === VIRTIO_BLK_T_IN || type === VIRTIO_BLK_T_OUT;
}
