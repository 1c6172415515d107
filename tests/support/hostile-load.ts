// A driver that writes anything at all into its ring, again and again. What the device may read and write for it lies in
// an arena of its own, and behind a sector of its own, so that what others rely on stays theirs.
import { setTimeout as sleep } from "node:timers/promises";
import {
  BLK_HEADER_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../../assembly/spec/virtio-blk.ts";
import {
  AVAIL_IDX,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Random } from "./random.ts";
import { type RawDescriptor, RawSplitRing, rawRing } from "./raw-ring.ts";

const ARENA_SIZE = 64 << 10;
const SLOT = 64;
const WAIT_MS_MAX = 3;

/** Not even the largest region reaches so far. */
const ENDLESS = 0xffff_ffff;
const NOWHERE = [0n, 0x10n, (1n << 63n) + 8n, (1n << 64n) - 16n];
const LAP_BITS = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** Others might change sectors of the good part when a header is read anew as something else. */
const TYPES = [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, 0xdead];

export class HostileLoad {
  attacks = 0;
  breaks = 0;
  private readonly arena: number;

  constructor(
    private readonly frontEnd: FrontEnd,
    private readonly index: number,
    /** The first sector that it may write. */
    private readonly firstSector: number,
    private readonly random: Random,
  ) {
    this.arena = frontEnd.memory.allocate(ARENA_SIZE);
  }

  /** Spoils the ring and kicks. A ring that broke, or just stands still, is started anew. */
  async attack(): Promise<void> {
    const { random, frontEnd, index } = this;
    const queue = frontEnd.queues[index]!;
    this.attacks++;
    this.fillArena();
    const ring = rawRing(queue);
    for (let i = 0; i < queue.size; i++) ring.writeDescriptor(i, this.descriptor(queue.size));
    if (ring instanceof RawSplitRing) this.spoilAvail(ring);
    queue.kick(true);
    await sleep(random.below(WAIT_MS_MAX + 1));
    const isBroken = queue.takeError();
    if (isBroken) this.breaks++;
    if (isBroken || random.below(8) === 0) await frontEnd.renewQueue(index);
  }

  private spoilAvail(ring: RawSplitRing): void {
    const { random } = this;
    const idx = Atomics.load(ring.avail, AVAIL_IDX / 2);
    const headEnd = ring.size + random.below(2);
    for (let slot = 0; slot < ring.size; slot++) ring.writeAvailEntry(slot, random.below(headEnd));
    ring.writeAvailIdx((idx + random.below(ring.size + 2)) & 0xffff);
  }

  /** Headers that may be honest, and rubbish between them. */
  private fillArena(): void {
    const { random, frontEnd, arena } = this;
    const bytes = random.bytes(ARENA_SIZE);
    const end = frontEnd.capacity - ARENA_SIZE / SECTOR_SIZE;
    for (let at = 0; at < ARENA_SIZE; at += SLOT) {
      encodeBlkHeader(random.pick(TYPES), random.between(this.firstSector, end)).copy(bytes, at);
    }
    frontEnd.memory.write(arena, bytes);
  }

  private descriptor(size: number): RawDescriptor {
    const { random } = this;
    const roll = random.below(100);
    const offset = random.below(ARENA_SIZE / SLOT) * SLOT;
    const room = ARENA_SIZE - offset;
    const lengths = [BLK_HEADER_SIZE, 1, SECTOR_SIZE, 8 * SECTOR_SIZE, random.below(room)];
    return {
      addr: roll < 90 ? BigInt(this.arena + offset) : random.pick(NOWHERE),
      len: roll === 0 ? ENDLESS : Math.min(room, random.pick(lengths)),
      flags: this.flags(),
      next: random.below(size + (random.below(20) === 0 ? 1 : 0)),
      id: random.below(0x1_0000),
    };
  }

  private flags(): number {
    const { random } = this;
    const next = random.below(2) === 0 ? VIRTQ_DESC_F_NEXT : 0;
    const write = random.below(2) === 0 ? VIRTQ_DESC_F_WRITE : 0;
    const indirect = random.below(16) === 0 ? VIRTQ_DESC_F_INDIRECT : 0;
    return next | write | indirect | (random.below(0x1_0000) & LAP_BITS);
  }
}
