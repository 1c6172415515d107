// A load of random reads with a fixed depth. Allocates nothing per request.
import { BLK_HEADER_SIZE, SECTOR_SIZE, VIRTIO_BLK_S_OK } from "../../assembly/spec/virtio-blk.ts";
import { NOTHING_USED, type Segment } from "../../host/driver/ring.ts";
import type { BlkDriver } from "../../host/front-end/blk-driver.ts";
import type { Memory } from "../../host/front-end/memory.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { Random } from "./random.ts";

export interface RandomReadsOptions {
  seed?: number;
  indirect?: boolean;
  /** Gives up when nothing finishes for so long. */
  stallTimeoutMs?: number;
  /** Looks for completions this long before it sleeps. */
  pollUs?: number;
  /** Called with the memory itself, for each block that was read. */
  check?: (sector: number, block: Uint8Array) => void;
}

export interface RandomReadsResult {
  count: number;
  seconds: number;
  iops: number;
  failures: number;
  kicks: number;
  calls: number;
}

/** One read in flight. Its header lies in `headers` and its status in `statuses`, at the slot's index. */
interface Slot {
  segments: Segment[];
  block: Uint8Array;
  sector: number;
}

const HEADER_WORDS = BLK_HEADER_SIZE / 4;

/** Keeps `depth` reads of `blockSize` bytes in flight until `count` are done. Nothing else may use the disk's queue. */
export function randomReads(
  { memory, queue, capacity }: BlkDriver,
  count: number,
  depth: number,
  blockSize: number,
  options: RandomReadsOptions = {},
): Promise<RandomReadsResult> {
  return new RandomReads(memory, queue, capacity, depth, blockSize, options).run(count);
}

class RandomReads {
  private readonly slots: Slot[];
  private readonly headers: Uint32Array;
  private readonly statuses: Uint8Array;
  private readonly slotOf: Int32Array;
  private readonly sectorsPerBlock: number;
  private readonly blocks: number;
  private readonly allocations: [gpa: number, byteLength: number][] = [];
  private readonly random: Random;
  private failures = 0;

  constructor(
    private readonly memory: Memory,
    private readonly queue: Virtqueue,
    capacity: number,
    depth: number,
    blockSize: number,
    private readonly options: RandomReadsOptions,
  ) {
    const headers = this.allocate(depth * BLK_HEADER_SIZE);
    const statuses = this.allocate(depth);
    this.headers = new Uint32Array(memory.view(headers, depth * BLK_HEADER_SIZE));
    this.statuses = memory.bytes(statuses, depth);
    this.slotOf = new Int32Array(queue.size);
    this.sectorsPerBlock = blockSize / SECTOR_SIZE;
    this.blocks = Math.floor(capacity / this.sectorsPerBlock);
    this.random = new Random(options.seed ?? 1);
    this.slots = Array.from({ length: depth }, (_, i) => {
      const block = this.allocate(blockSize);
      const segments = [
        { gpa: headers + i * BLK_HEADER_SIZE, length: BLK_HEADER_SIZE, writable: false },
        { gpa: block, length: blockSize, writable: true },
        { gpa: statuses + i, length: 1, writable: true },
      ];
      return { segments, block: memory.bytes(block, blockSize), sector: 0 };
    });
  }

  async run(count: number): Promise<RandomReadsResult> {
    const { queue } = this;
    const { kickCount, callCount } = queue;
    const start = performance.now();
    let submitted = 0;
    for (; submitted < Math.min(count, this.slots.length); submitted++) this.submit(submitted);
    this.show();
    for (let finished = 0; finished < count; ) {
      const token = queue.popUsed();
      if (token !== NOTHING_USED) {
        finished++;
        const slot = this.slotOf[token]!;
        this.finish(slot);
        if (submitted < count) {
          this.submit(slot);
          submitted++;
        }
        continue;
      }
      this.show();
      if (!this.pollBriefly()) await this.sleep(finished, count);
    }
    for (const [gpa, byteLength] of this.allocations) this.memory.free(gpa, byteLength);
    const seconds = (performance.now() - start) / 1000;
    const kicks = queue.kickCount - kickCount;
    const calls = queue.callCount - callCount;
    return { count, seconds, iops: count / seconds, failures: this.failures, kicks, calls };
  }

  private allocate(byteLength: number): number {
    const gpa = this.memory.allocate(byteLength);
    this.allocations.push([gpa, byteLength]);
    return gpa;
  }

  /** Once for all that was added since the last time. */
  private show(): void {
    this.queue.publish();
    this.queue.kick();
  }

  private pollBriefly(): boolean {
    const pollUs = this.options.pollUs ?? 0;
    for (const deadline = performance.now() + pollUs / 1000; performance.now() < deadline; ) {
      if (this.queue.hasUsed()) return true;
    }
    return false;
  }

  private async sleep(finished: number, count: number): Promise<void> {
    const { stallTimeoutMs = 10_000 } = this.options;
    if (!(await this.queue.wait(stallTimeoutMs))) {
      throw new Error(`stalled after ${finished} of ${count} reads`);
    }
  }

  private submit(index: number): void {
    const slot = this.slots[index]!;
    slot.sector = this.random.below(this.blocks) * this.sectorsPerBlock;
    // Type 0 is VIRTIO_BLK_T_IN; only the sector changes.
    this.headers[index * HEADER_WORDS + 2] = slot.sector % 0x1_0000_0000;
    this.headers[index * HEADER_WORDS + 3] = Math.floor(slot.sector / 0x1_0000_0000);
    this.statuses[index] = 0xff;
    this.slotOf[this.queue.add(slot.segments, { indirect: this.options.indirect ?? false })] = index;
  }

  private finish(index: number): void {
    const slot = this.slots[index]!;
    if (this.statuses[index] !== VIRTIO_BLK_S_OK) this.failures++;
    this.options.check?.(slot.sector, slot.block);
  }
}
