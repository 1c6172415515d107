// A driver that writes anything at all into its ring, again and again, of whatever device. What the device may read and write
// for it lies in an arena of its own, so that what others rely on stays theirs.
import { setTimeout as sleep } from "node:timers/promises";
import {
  AVAIL_IDX,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Random } from "./random.ts";
import { type RawDescriptor, RawSplitRing, rawRing } from "./raw-ring.ts";

export const ARENA_SIZE = 64 << 10;
export const SLOT = 64;
const WAIT_MS_MAX = 3;

/** Not even the largest region reaches so far. */
const ENDLESS = 0xffff_ffff;
const NOWHERE = [0n, 0x10n, (1n << 63n) + 8n, (1n << 64n) - 16n];
const LAP_BITS = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** Of little words requests are made: kinds, flags, indices. */
const WORDS = [0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 16, 0xff, 0x100, 0x7fff, 0x8000, 0xffff];

/** Bytes that a device may take for requests of its own. */
export function likelyBytes(random: Random, byteLength: number): Buffer {
  const bytes = random.bytes(byteLength);
  if (random.below(4) === 0) return bytes;
  for (let at = 0; at + 2 <= byteLength; at += 2) bytes.writeUInt16LE(random.pick(WORDS), at);
  return bytes;
}

export class RingTorment {
  attacks = 0;
  breaks = 0;
  protected readonly arena: number;

  constructor(
    protected readonly frontEnd: FrontEnd,
    private readonly index: number,
    protected readonly random: Random,
    /** Lengths of buffers, beside any. */
    private readonly lengths: readonly number[] = [1, 4, 8, 16, 64, 4096],
    /** What it writes for the device to read. */
    private readonly likely = likelyBytes,
  ) {
    this.arena = frontEnd.memory.allocate(ARENA_SIZE);
  }

  /** Spoils the ring and kicks. A ring that broke, or just stands still, is started anew. */
  async attack(): Promise<void> {
    const { random, frontEnd, index } = this;
    this.spoil();
    const queue = frontEnd.queues[index]!;
    queue.kick(true);
    await sleep(random.below(WAIT_MS_MAX + 1));
    const isBroken = queue.takeError();
    if (isBroken) this.breaks++;
    if (isBroken || random.below(8) === 0) await frontEnd.renewQueue(index);
  }

  /** Writes the ring and all that it points to, and tells nobody. */
  spoil(): void {
    const queue = this.frontEnd.queues[this.index]!;
    this.attacks++;
    this.fillArena();
    const ring = rawRing(queue);
    for (let i = 0; i < queue.size; i++) ring.writeDescriptor(i, this.descriptor(queue.size));
    if (ring instanceof RawSplitRing) this.spoilAvail(ring);
  }

  /** So many stores into what descriptors point to, while somebody may be reading it. */
  changeArena(stores: number): void {
    const { frontEnd, random, arena } = this;
    const bytes = frontEnd.memory.bytes(arena, ARENA_SIZE);
    for (let i = 0; i < stores; i++) bytes[random.below(ARENA_SIZE)] = random.pick(WORDS);
  }

  protected fillArena(): void {
    this.frontEnd.memory.write(this.arena, this.likely(this.random, ARENA_SIZE));
  }

  private spoilAvail(ring: RawSplitRing): void {
    const { random } = this;
    const idx = Atomics.load(ring.avail, AVAIL_IDX / 2);
    const headEnd = ring.size + random.below(2);
    for (let slot = 0; slot < ring.size; slot++) ring.writeAvailEntry(slot, random.below(headEnd));
    ring.writeAvailIdx((idx + random.below(ring.size + 2)) & 0xffff);
  }

  private descriptor(size: number): RawDescriptor {
    const { random } = this;
    const roll = random.below(100);
    const offset = random.below(ARENA_SIZE / SLOT) * SLOT;
    const room = ARENA_SIZE - offset;
    const lengths = [...this.lengths, random.below(room)];
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
