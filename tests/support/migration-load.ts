// What a guest does while it is moved: requests of all kinds that have the back-end write to its memory. What the driver writes and
// what the device writes lie in regions of their own, so that a copy of the second depends on the log alone.
import { randomFillSync } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BLK_HEADER_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
} from "../../assembly/spec/virtio-blk.ts";
import type { Segment } from "../../host/driver/ring.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { Memory, type RegionLayout } from "../../host/front-end/memory.ts";
import { Virtqueue } from "../../host/front-end/virtqueue.ts";
import * as m from "../../host/protocol/messages.ts";
import { hasEventIdx, LOG_PAGE, MigrationLog, MovedMemory, startLogging } from "./moved-memory.ts";
import type { Random } from "./random.ts";

const MIB = 1 << 20;
/** Not at zero, and no two kinds of address alike. */
const DRIVERS: RegionLayout = { gpa: 0x1_0000_0000, byteLength: MIB / 4, userAddress: 0x7f5a_c000_0000 };
const DEVICES: RegionLayout = { gpa: 0x1_4000_0000, byteLength: 16 * MIB, userAddress: 0x7f6a_0000_0000 };
/** So large that the core sees memory by windows and copies, and the host writes for it. Nobody touches it. */
const UNUSED: RegionLayout = { gpa: 0x10_0000_0000, byteLength: 8192 * MIB, userAddress: 0x7000_0000_0000 };

const QUEUE_SIZE = 128;
const DEPTH = 32;
const DATA_MAX = 64 << 10;

export const PASSES = Number(process.env.VRINGD_TEST_MIGRATION_PASSES ?? 20);
const PASS_MS = 5;
/** Longer than a back-end that was killed takes to come back on a busy machine. */
const STALL_MS = 60_000;

export const PROTOCOL_FEATURES = [
  m.VHOST_USER_PROTOCOL_F_MQ,
  m.VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  m.VHOST_USER_PROTOCOL_F_REPLY_ACK,
  m.VHOST_USER_PROTOCOL_F_CONFIG,
  m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
];

export interface MigrationGuestOptions extends FrontEndOptions {
  /** Larger than linear memory. */
  isLarge?: boolean;
  /** Data lie at odd addresses, which O_DIRECT refuses. */
  isUnaligned?: boolean;
}

export class MigrationGuest {
  private lastCopy: MovedMemory | undefined;
  private running: Promise<void> | undefined;
  private readonly headers: number;
  requests = 0;

  private constructor(
    readonly frontEnd: FrontEnd,
    private readonly queue: Virtqueue,
    private readonly random: Random,
    private readonly options: MigrationGuestOptions,
  ) {
    this.headers = frontEnd.memory.allocate(DEPTH * BLK_HEADER_SIZE, 0);
  }

  static async connect(
    socketPath: string,
    random: Random,
    options: MigrationGuestOptions,
  ): Promise<MigrationGuest> {
    const frontEnd = await FrontEnd.open(socketPath);
    await frontEnd.negotiate({ queueSize: QUEUE_SIZE, ...options });
    await frontEnd.trackInflight(1);
    const memory = new Memory(options.isLarge ? [DRIVERS, DEVICES, UNUSED] : [DRIVERS, DEVICES]);
    await frontEnd.shareMemory(memory);
    const packed = options.packed ?? false;
    const addresses = {
      descriptor: memory.allocate(LOG_PAGE, 0),
      available: memory.allocate(LOG_PAGE, 0),
      used: memory.allocate(LOG_PAGE, 1),
    };
    const queue = new Virtqueue(memory, {
      packed,
      size: QUEUE_SIZE,
      eventIdx: hasEventIdx(frontEnd),
      addresses,
    });
    frontEnd.queues.push(queue);
    await frontEnd.startQueue(0);
    return new MigrationGuest(frontEnd, queue, random, options);
  }

  /** One past the last guest physical address. */
  get guestEnd(): number {
    const { gpa, byteLength } = this.options.isLarge ? UNUSED : DEVICES;
    return gpa + byteLength;
  }

  copy(): MovedMemory {
    return new MovedMemory(this.frontEnd.memory, [DRIVERS, DEVICES]);
  }

  start(): void {
    this.lastCopy = undefined;
    this.running = this.run();
    this.running.catch(() => {});
  }

  /**
   * As when the processors stop: requests are in flight, and nothing is written here any more. What the processors have written, which the
   * machine knows by itself, is copied before the device can have answered any of them.
   */
  async stop(copy: MovedMemory): Promise<void> {
    this.lastCopy = copy;
    await this.running;
  }

  close(): void {
    this.frontEnd.close();
  }

  private async run(): Promise<void> {
    const { queue } = this;
    for (;;) {
      const { lastCopy } = this;
      this.submit(lastCopy);
      if (lastCopy !== undefined) return;
      for (let left = DEPTH; left > 0; ) {
        left -= queue.poll().length;
        if (left > 0 && !(await queue.wait(STALL_MS))) throw new Error(`stalled with ${left} requests`);
      }
    }
  }

  private submit(lastCopy: MovedMemory | undefined): void {
    const { queue } = this;
    for (let i = 0; i < DEPTH; i++) {
      queue.add(this.request(i), { indirect: this.random.below(2) === 0 });
      this.requests++;
    }
    queue.publish();
    lastCopy?.copyRange(DRIVERS.gpa, DRIVERS.byteLength);
    queue.kick();
  }

  private request(slot: number): Segment[] {
    const kind = this.random.below(8);
    if (kind === 0) return this.chain(slot, VIRTIO_BLK_T_FLUSH, 0, []);
    if (kind === 1) return this.chain(slot, VIRTIO_BLK_T_GET_ID, 0, [VIRTIO_BLK_ID_BYTES]);
    // Past the end: an error, and a status all the same.
    if (kind === 2) return this.chain(slot, VIRTIO_BLK_T_IN, 2 ** 40, [SECTOR_SIZE]);
    const sectors = 1 + this.random.below(DATA_MAX / SECTOR_SIZE);
    const first = this.random.below(this.frontEnd.capacity - sectors);
    const half = (sectors >> 1) * SECTOR_SIZE;
    const rest = sectors * SECTOR_SIZE - half;
    return this.chain(slot, VIRTIO_BLK_T_IN, first, half > 0 ? [half, rest] : [rest]);
  }

  private chain(slot: number, type: number, sector: number, lengths: readonly number[]): Segment[] {
    const { memory } = this.frontEnd;
    const header = this.headers + slot * BLK_HEADER_SIZE;
    const fields = new DataView(memory.view(header, BLK_HEADER_SIZE));
    fields.setUint32(0, type, true);
    fields.setBigUint64(8, BigInt(sector), true);
    const data = lengths.map((length) => ({ gpa: this.place(length), length, writable: true }));
    return [
      { gpa: header, length: BLK_HEADER_SIZE, writable: false },
      ...data,
      { gpa: this.place(1), length: 1, writable: true },
    ];
  }

  /** Anywhere behind the ring: buffers may lie over each other, and the last that is written counts. */
  private place(byteLength: number): number {
    const room = DEVICES.byteLength - LOG_PAGE - byteLength;
    const unit = this.options.isUnaligned ? 1 : SECTOR_SIZE;
    const offset = this.random.below(Math.floor(room / unit)) * unit;
    return DEVICES.gpa + LOG_PAGE + offset;
  }
}

export interface Moved {
  requests: number;
  /** Copied because they were logged. */
  pages: number;
  /** Guest addresses of pages that are not as they were copied last. */
  wrong: number[];
}

/** Copies a guest under load, pass by pass, stops it, and compares. Before each pass something else may happen to it. */
export async function moveGuest(
  socketPath: string,
  random: Random,
  options: MigrationGuestOptions,
  beforePass: (pass: number, frontEnd: FrontEnd, log: MigrationLog) => Promise<void> = async () => {},
): Promise<Moved> {
  const protocolFeatures = PROTOCOL_FEATURES;
  const guest = await MigrationGuest.connect(socketPath, random, { protocolFeatures, ...options });
  const log = new MigrationLog(guest.guestEnd);
  try {
    guest.start();
    await startLogging(guest.frontEnd, log);
    const copy = guest.copy();
    let pages = 0;
    for (let pass = 0; pass < PASSES; pass++) {
      await beforePass(pass, guest.frontEnd, log);
      await sleep(PASS_MS);
      const dirty = log.take();
      pages += dirty.length;
      copy.copyPages(dirty);
    }
    await guest.stop(copy);
    await guest.frontEnd.setVringEnable(0, false);
    await guest.frontEnd.stopQueue(0);
    copy.copyPages(log.take());
    return { requests: guest.requests, pages, wrong: copy.wrongPages() };
  } finally {
    guest.close();
    log.close();
  }
}

/** An image whose every sector differs from every other. */
export function randomImage(byteLength: number): Buffer {
  return randomFillSync(Buffer.alloc(byteLength));
}
