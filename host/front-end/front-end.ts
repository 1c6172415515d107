// A whole front-end: negotiation, guest memory and queues, as a VMM would set them up.
import * as blk from "../../assembly/spec/virtio-blk.ts";
import {
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../../assembly/spec/virtqueue.ts";
import { SplitRing } from "../driver/split.ts";
import { close, viewOf } from "../linux/libc.ts";
import { mapShared, unmap } from "../linux/mapping.ts";
import type { InflightDescription } from "../protocol/codec.ts";
import { featureMask, hasFeature } from "../protocol/feature-bits.ts";
import * as m from "../protocol/messages.ts";
import { BlkDriver } from "./blk-driver.ts";
import { Memory, type RegionLayout } from "./memory.ts";
import { openConnection, Requests } from "./requests.ts";
import { Virtqueue } from "./virtqueue.ts";

export interface FrontEndOptions {
  /** Each is used if the back-end offers it. */
  packed?: boolean;
  eventIdx?: boolean;
  indirect?: boolean;
  /** Exactly these feature bits, whatever was offered. */
  features?: bigint;
  /** Bit numbers to accept, of those offered. */
  protocolFeatures?: readonly number[];
  memory?: readonly RegionLayout[];
  /** Queues to set up at once. */
  queues?: number;
  /** Whether they are tracked in an inflight region. */
  inflight?: boolean;
  queueSize?: number;
  /** Bytes of config space to read, 0 for none; 60 is what virtio 1.1 has for a disk, and all that QEMU's export gives. */
  configSize?: number;
  /** The back-end is only asked what it is: whoever goes on calls acceptFeatures(). */
  onlyAsks?: boolean;
}

const ACCEPTED_PROTOCOL_FEATURES = [
  m.VHOST_USER_PROTOCOL_F_MQ,
  m.VHOST_USER_PROTOCOL_F_REPLY_ACK,
  m.VHOST_USER_PROTOCOL_F_CONFIG,
  m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  m.VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  m.VHOST_USER_PROTOCOL_F_STATUS,
];

/** A driver accepts no feature that it doesn't know (virtio 1.4, 2.2), such as one that changes how it has to kick. */
const UNDERSTOOD_FEATURES = [
  blk.VIRTIO_BLK_F_SIZE_MAX,
  blk.VIRTIO_BLK_F_SEG_MAX,
  blk.VIRTIO_BLK_F_RO,
  blk.VIRTIO_BLK_F_BLK_SIZE,
  blk.VIRTIO_BLK_F_FLUSH,
  blk.VIRTIO_BLK_F_TOPOLOGY,
  blk.VIRTIO_BLK_F_CONFIG_WCE,
  blk.VIRTIO_BLK_F_MQ,
  blk.VIRTIO_BLK_F_DISCARD,
  blk.VIRTIO_BLK_F_WRITE_ZEROES,
  m.VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_VERSION_1,
];

const QUEUE_SIZE = 128;
const CONFIG_SIZE = 60;

export interface QueueStart {
  /** Left out: that of a ring which was never used. */
  base?: number;
  /** Whether the driver kicks once the ring is set up: true if left out. */
  kick?: boolean;
  /** Descriptors to send none of (VHOST_USER_VRING_NOFD_MASK): the back-end polls, or the driver does. */
  without?: readonly ("kick" | "call")[];
  /** Whether to enable the ring too: true if left out. */
  enable?: boolean;
}

/** The inflight region, mapped. It outlives the connection that it came by. */
interface Inflight {
  fd: number;
  description: InflightDescription;
  address: number;
  bytes: Buffer;
}

/** The back-end answered that it won't. */
export class Refused extends Error {}

export class FrontEnd extends Requests {
  /** Offered, and agreed on. */
  backendFeatures = 0n;
  /** Undefined: the back-end has none to negotiate. */
  offeredProtocolFeatures: bigint | undefined;
  features = 0n;
  maxQueues = 1;
  config = Buffer.alloc(0);
  readonly queues: Virtqueue[] = [];
  inflight: Inflight | undefined;
  private guestMemory: Memory | undefined;
  private options: FrontEndOptions = {};
  private readonly disks: BlkDriver[] = [];
  /** Where each ring was last started or stopped. */
  private readonly bases: number[] = [];
  private isClosed = false;

  /** Connects and does nothing else. */
  static async open(target: string | number): Promise<FrontEnd> {
    return new FrontEnd(await openConnection(target));
  }

  /** Connects and sets up everything: the queues are started, the disk can be used. */
  static async connect(target: string | number, options: FrontEndOptions = {}): Promise<FrontEnd> {
    const frontEnd = await FrontEnd.open(target);
    const { queues = 1, inflight = false } = options;
    try {
      await frontEnd.negotiate(options);
      if (inflight) await frontEnd.trackInflight(queues);
      await frontEnd.shareMemory(new Memory(options.memory));
      for (let i = 0; i < queues; i++) await frontEnd.addQueue();
    } catch (error) {
      frontEnd.close();
      throw error;
    }
    return frontEnd;
  }

  get memory(): Memory {
    if (this.guestMemory === undefined) throw new Error("no memory is shared yet");
    return this.guestMemory;
  }

  /** Sectors of the disk, as its config space says. */
  get capacity(): number {
    return Number(this.config.readBigUInt64LE(blk.BLK_CONFIG_CAPACITY));
  }

  hasFeature(bit: number): boolean {
    return ((this.features >> BigInt(bit)) & 1n) === 1n;
  }

  /** In QEMU's order: features come before the inflight region, so that the back-end knows the ring format. */
  async negotiate(options: FrontEndOptions = {}): Promise<void> {
    this.options = options;
    this.backendFeatures = await this.getFeatures();
    if (hasFeature(this.backendFeatures, m.VHOST_USER_F_PROTOCOL_FEATURES)) await this.negotiateProtocol();
    await this.setOwner();
    const readsConfig = options.configSize !== 0 && this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIG);
    if (readsConfig) await this.readConfig();
    if (!options.onlyAsks) await this.acceptFeatures();
  }

  async acceptFeatures(): Promise<void> {
    this.features = this.options.features ?? this.wantedFeatures();
    await this.accepted("SET_FEATURES", this.setFeatures(this.features));
  }

  async readConfig(): Promise<Buffer> {
    const config = await this.getConfig(0, this.options.configSize ?? CONFIG_SIZE);
    if (config === undefined) throw new Refused("GET_CONFIG was refused");
    this.config = Buffer.from(config);
    return this.config;
  }

  /** Region by region where the back-end has slots, in one table where it hasn't. Takes the memory over. */
  async shareMemory(memory: Memory): Promise<void> {
    this.guestMemory = memory;
    const { regions } = memory;
    if (!this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
      const table = this.setMemTable(
        regions.map((region) => region.description),
        regions.map((region) => region.fd),
      );
      await this.accepted("SET_MEM_TABLE", table);
      return;
    }
    for (const region of regions) {
      await this.accepted("ADD_MEM_REG", this.addMemReg(region.description, region.fd));
    }
  }

  /** Makes a queue of the negotiated format and starts it. */
  async addQueue(size?: number): Promise<Virtqueue> {
    const queue = this.makeQueue(size);
    await this.startQueue(this.queues.length - 1);
    return queue;
  }

  /** Makes a queue of the negotiated format, and tells nobody. */
  makeQueue(size = this.options.queueSize ?? QUEUE_SIZE, regionIndex = 0): Virtqueue {
    const packed = this.hasFeature(VIRTIO_F_RING_PACKED);
    const eventIdx = this.hasFeature(VIRTIO_F_RING_EVENT_IDX);
    const queue = new Virtqueue(this.memory, { packed, size, eventIdx, regionIndex });
    this.queues.push(queue);
    return queue;
  }

  /** Stops a ring and starts an empty one in its place, as a driver does that resets its device. */
  async renewQueue(index: number): Promise<Virtqueue> {
    await this.stopQueue(index);
    const { size } = this.queues[index]!;
    this.queues[index]!.close();
    delete this.disks[index];
    const queue = this.makeQueue(size);
    this.queues.pop();
    this.queues[index] = queue;
    await this.startQueue(index);
    return queue;
  }

  /** The kick starts the ring ("Ring states"), and makes up for one that an earlier back-end did not see. */
  async startQueue(index: number, start: QueueStart | number = {}): Promise<void> {
    const queue = this.queues[index]!;
    const options = typeof start === "number" ? { base: start } : start;
    const { base = queue.ring.initialBase, kick = true, without = [], enable = true } = options;
    await this.accepted("SET_VRING_NUM", this.setVringNum(index, queue.size));
    await this.accepted("SET_VRING_BASE", this.setVringBase(index, base));
    this.bases[index] = base;
    await this.accepted(
      "SET_VRING_ADDR",
      this.setVringAddr(this.memory.vringAddress(index, this.queues[index]!.ring.addresses)),
    );
    await this.accepted("SET_VRING_ERR", this.setVringErr(index, queue.errFd));
    const kickFd = without.includes("kick") ? undefined : queue.kickFd;
    const callFd = without.includes("call") ? undefined : queue.callFd;
    await this.accepted("SET_VRING_KICK", this.setVringKick(index, kickFd));
    await this.accepted("SET_VRING_CALL", this.setVringCall(index, callFd));
    if (enable && this.hasFeature(m.VHOST_USER_F_PROTOCOL_FEATURES)) {
      await this.accepted("SET_VRING_ENABLE", this.setVringEnable(index, true));
    }
    if (kick) queue.kick(true);
  }

  /** Stops a ring and returns the base to start it from again. */
  async stopQueue(index: number): Promise<number> {
    const base = await this.getVringBase(index);
    this.bases[index] = base;
    return base;
  }

  /** Gets an inflight region and gives it back, as QEMU does before it starts the rings. */
  async trackInflight(
    numQueues: number,
    queueSize = this.options.queueSize ?? QUEUE_SIZE,
  ): Promise<Inflight> {
    const { description, fd } = await this.getInflightFd(numQueues, queueSize);
    if (fd === undefined) throw new Error("GET_INFLIGHT_FD gave no descriptor");
    return this.bringInflight(description, fd);
  }

  /** Gives the back-end a region that somebody has made. Takes the descriptor. */
  async bringInflight(description: InflightDescription, fd: number): Promise<Inflight> {
    this.dropInflight();
    const address = mapShared(fd, description.mmapOffset, Number(description.mmapSize));
    const bytes = Buffer.from(viewOf(address, Number(description.mmapSize)));
    this.inflight = { fd, description, address, bytes };
    await this.accepted("SET_INFLIGHT_FD", this.setInflightFd(description, fd));
    return this.inflight;
  }

  /** Leaves the back-end; memory, rings and the inflight region stay as they are. */
  disconnect(): void {
    this.connection.close();
  }

  /**
   * Comes back after a disconnect or a crash of the back-end, with the memory, rings and inflight region from before.
   * Rings start at the bases that QEMU would send unless others are given.
   */
  async reconnect(target: string | number, bases = this.basesAfterCrash()): Promise<void> {
    this.connection.close();
    this.connection = await openConnection(target);
    this.protocolFeatures = 0n;
    await this.negotiate({ ...this.options, features: this.features });
    if (this.inflight !== undefined) {
      const { description, fd } = this.inflight;
      await this.accepted("SET_INFLIGHT_FD", this.setInflightFd(description, fd));
    }
    await this.shareMemory(this.memory);
    for (const [index, base] of bases.entries()) await this.startQueue(index, base);
  }

  /** A split ring restarts from its used index. A packed ring keeps none in memory: QEMU sends what it sent before. */
  basesAfterCrash(): number[] {
    return this.queues.map(({ ring }, i) => (ring instanceof SplitRing ? ring.usedIdx : this.bases[i]!));
  }

  /** The queue's one driver: completions are handed out by it. */
  disk(queueIndex = 0): BlkDriver {
    this.disks[queueIndex] ??= new BlkDriver(this.memory, this.queues[queueIndex]!, this.capacity);
    return this.disks[queueIndex];
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.connection.close();
    for (const queue of this.queues) queue.close();
    this.guestMemory?.close();
    this.dropInflight();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  private async negotiateProtocol(): Promise<void> {
    const offered = await this.getProtocolFeatures();
    this.offeredProtocolFeatures = offered;
    await this.setProtocolFeatures(
      offered & featureMask(this.options.protocolFeatures ?? ACCEPTED_PROTOCOL_FEATURES),
    );
    if (this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_MQ))
      this.maxQueues = Number(await this.getQueueNum());
  }

  private wantedFeatures(): bigint {
    const { packed = false, eventIdx = true, indirect = true } = this.options;
    const wanted = [...UNDERSTOOD_FEATURES];
    if (packed) wanted.push(VIRTIO_F_RING_PACKED);
    if (eventIdx) wanted.push(VIRTIO_F_RING_EVENT_IDX);
    if (indirect) wanted.push(VIRTIO_F_RING_INDIRECT_DESC);
    return this.backendFeatures & featureMask(wanted);
  }

  private async accepted(what: string, acknowledgement: Promise<bigint>): Promise<void> {
    const value = await acknowledgement;
    if (value !== 0n) throw new Refused(`${what} was refused with ${value}`);
  }

  private dropInflight(): void {
    if (this.inflight === undefined) return;
    unmap(this.inflight.address, this.inflight.bytes.length);
    close(this.inflight.fd);
    this.inflight = undefined;
  }
}
