// One front-end from its first message to its last: one method a request. It owns what the front-end has negotiated
// and every descriptor that it sent; rings are in vrings.ts, the disk's config space in device/blk-config.ts.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { CacheMode } from "../devices/block/cache-mode.ts";
import type { BlkConfig } from "../devices/block/config.ts";
import { ProtocolError } from "../errors.ts";
import { isNotifier } from "../linux/eventfd.ts";
import { close, SystemError } from "../linux/libc.ts";
import { type GuestMemory, GuestMemoryError } from "../memory/guest-memory.ts";
import { createInflightRegion, type InflightRegion } from "../memory/inflight-region.ts";
import type { Log } from "../process/log.ts";
import * as codec from "../protocol/codec.ts";
import type { Connection, Message } from "../protocol/connection.ts";
import { featureMask, hasFeature } from "../protocol/feature-bits.ts";
import * as m from "../protocol/messages.ts";
import type { RingFaults, VringStart } from "../workers/data-plane.ts";
import { hasPast } from "./ring-past.ts";
import { NO_FD, type Vring } from "./vring.ts";
import type { RingRunner } from "./vrings.ts";
import { Vrings } from "./vrings.ts";

/** What outlives a front-end, and what each of them finds as new. */
export interface SessionDevice {
  inflight: Pick<InflightRegion, "set" | "clear" | "forQueue" | "isSet">;
  memory: Pick<GuestMemory, "replace" | "add" | "remove" | "clear" | "regionCount" | "userToPtr" | "u16At">;
  dataPlane: RingRunner & RingFaults;
  cacheMode: Pick<CacheMode, "set" | "forgetFlush">;
  features: bigint;
  config: BlkConfig;
  queueCount: number;
}

/** Guest memory slots: as many as the kernel's own vhost has. */
const MAX_MEM_SLOTS = 509;

const PROTOCOL_FEATURES = featureMask([
  m.VHOST_USER_PROTOCOL_F_MQ,
  m.VHOST_USER_PROTOCOL_F_REPLY_ACK,
  m.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  m.VHOST_USER_PROTOCOL_F_CONFIG,
  m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  m.VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  m.VHOST_USER_PROTOCOL_F_STATUS,
  m.VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT,
]);

/**
 * VIRTIO_F_ANY_LAYOUT, from before virtio 1.0. QEMU offers it to guests by itself and passes on that they took it;
 * any layout is what the core takes anyway.
 */
const FEATURES_IGNORED = featureMask([27]);

/** Requests of features that aren't offered here, whose senders wait for more than an acknowledgement. */
const REPLIED_ELSEWHERE = new Set([
  m.VHOST_USER_IOTLB_MSG,
  m.VHOST_USER_CREATE_CRYPTO_SESSION,
  m.VHOST_USER_POSTCOPY_ADVISE,
  m.VHOST_USER_POSTCOPY_END,
  m.VHOST_USER_GET_SHARED_OBJECT,
  m.VHOST_USER_SET_DEVICE_STATE_FD,
  m.VHOST_USER_CHECK_DEVICE_STATE,
  m.VHOST_USER_GET_SHMEM_CONFIG,
]);

/** zero on success, non-zero on failure (VHOST_USER_PROTOCOL_F_REPLY_ACK). */
const ACK = codec.encodeU64(0n);
const NACK = codec.encodeU64(1n);
const NO_PAYLOAD = Buffer.alloc(0);
const NO_INFLIGHT = codec.encodeInflight({ mmapSize: 0n, mmapOffset: 0n, numQueues: 0, queueSize: 0 });

/** Handlers of requests with a reply of their own return its payload. */
type Payload = Buffer | undefined;

interface Request {
  handle: (message: Message) => Payload | Promise<Payload> | void | Promise<void>;
  /** The protocol feature that brings the request. */
  feature?: number;
  /** How many descriptors it may carry, where not none. */
  fds?: (count: number) => boolean;
  /** The reply that says it failed, where not a non-zero acknowledgement. */
  failure?: Buffer;
  /** A guest can bring this failure about, so it must not end the connection. */
  isHarmless?: boolean;
}

export class Session {
  readonly connectedAtMs = performance.now();
  /** As negotiated so far. */
  features = 0n;
  protocolFeatures = 0n;
  private status = 0n;
  private hasReadConfig = false;
  private backendRequestFd = NO_FD;
  /** Descriptors that go with the reply being made. */
  private readonly replyFds: number[] = [];
  private readonly vrings: Vrings;
  private readonly requests: ReadonlyMap<number, Request>;
  private readonly onBroken = (index: number, reason: string) => this.vrings.reportBroken(index, reason);

  constructor(
    private readonly connection: Connection,
    private readonly device: SessionDevice,
    private readonly log: Log,
  ) {
    this.vrings = new Vrings(device.queueCount, device.memory, device.inflight, device.dataPlane, log);
    this.vrings.onFirstStart = (start) => this.beforeFirstStart(start);
    this.requests = this.table();
  }

  /**
   * Serves until the front-end leaves or breaks the protocol, or until stopped; then nothing of it is left. Resolves with
   * what the front-end did wrong, if that is why it ended.
   */
  async run(): Promise<Error | undefined> {
    this.device.dataPlane.on("broken", this.onBroken);
    this.device.cacheMode.forgetFlush();
    this.applyCacheMode();
    try {
      for (;;) {
        const message = await this.connection.receive();
        if (message === undefined) return undefined;
        await this.serve(message);
        // A front-end that floods us must not keep signals and the reports of workers waiting.
        await nextTurn();
      }
    } catch (error) {
      if (!isFrontEndsFault(error)) throw error;
      this.log.warn({ reason: error.message }, "connection closed");
      return error;
    } finally {
      await this.end();
    }
  }

  /** Ends run() after the request at hand. */
  stop(): void {
    this.connection.interrupt();
  }

  /**
   * The rings come first: when its connection breaks, QEMU looks how far they have got, and would have repeated what
   * finishes after that.
   */
  private async end(): Promise<void> {
    await this.vrings.close();
    this.connection.close();
    this.device.dataPlane.off("broken", this.onBroken);
    this.device.memory.clear();
    this.device.inflight.clear();
    this.setBackendRequestFd(NO_FD);
  }

  private async serve(message: Message): Promise<void> {
    const payload = await this.answer(message);
    if (payload === undefined) return;
    // Version 1 and the reply flag, nothing else ("Header").
    const reply = codec.encodeMessage(message.request, m.VHOST_USER_REPLY_MASK, payload);
    const fds = this.replyFds.splice(0);
    try {
      await this.connection.send(reply, fds);
    } finally {
      fds.forEach((fd) => {
        close(fd);
      });
    }
  }

  private async answer(message: Message): Promise<Payload> {
    const request = this.requests.get(message.request) ?? unknownRequest(message.request);
    this.log.debug({ request: m.requestName(message.request), bytes: message.payload.length }, "request");
    try {
      this.check(request, message);
      const payload = await request.handle(message);
      return payload ?? (this.needsAck(message) ? ACK : undefined);
    } catch (error) {
      if (!isFrontEndsFault(error)) throw error;
      return this.refuse(request, message, error);
    } finally {
      // Whatever no handler has taken.
      for (const fd of message.fds) close(fd);
    }
  }

  private check({ feature, fds }: Request, message: Message): void {
    const name = m.requestName(message.request);
    if (feature !== undefined && !this.hasProtocolFeature(feature)) {
      throw new ProtocolError(name, "its protocol feature was not negotiated");
    }
    const { length } = message.fds;
    if (fds === undefined ? length > 0 : !fds(length)) throw new ProtocolError(name, `${length} descriptors`);
  }

  private refuse(request: Request, message: Message, error: Error): Payload {
    const payload = request.failure ?? (this.needsAck(message) ? NACK : undefined);
    if (payload === undefined && !request.isHarmless) throw error;
    this.log.warn({ reason: error.message }, "request refused");
    return payload;
  }

  private needsAck({ flags }: Message): boolean {
    return (
      this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_REPLY_ACK) &&
      (flags & m.VHOST_USER_NEED_REPLY_MASK) !== 0
    );
  }

  private hasProtocolFeature(bit: number): boolean {
    return hasFeature(this.protocolFeatures, bit);
  }

  private table(): ReadonlyMap<number, Request> {
    const config = m.VHOST_USER_PROTOCOL_F_CONFIG;
    const inflight = m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
    const slots = m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
    const status = m.VHOST_USER_PROTOCOL_F_STATUS;
    const upTo = (most: number) => (count: number) => count <= most;
    return new Map<number, Request>([
      [m.VHOST_USER_GET_FEATURES, { handle: (message) => this.getFeatures(message) }],
      [m.VHOST_USER_SET_FEATURES, { handle: (message) => this.setFeatures(message) }],
      [m.VHOST_USER_GET_PROTOCOL_FEATURES, { handle: (message) => this.getProtocolFeatures(message) }],
      [m.VHOST_USER_SET_PROTOCOL_FEATURES, { handle: (message) => this.setProtocolFeatures(message) }],
      [m.VHOST_USER_SET_OWNER, { handle: (message) => codec.decodeNothing(message) }],
      // Deprecated: "back-ends either ignore this message, or use it to disable all rings".
      [m.VHOST_USER_RESET_OWNER, { handle: () => undefined }],
      [
        m.VHOST_USER_RESET_DEVICE,
        { handle: (message) => this.resetDevice(message), feature: m.VHOST_USER_PROTOCOL_F_RESET_DEVICE },
      ],
      [m.VHOST_USER_SET_STATUS, { handle: (message) => this.setStatus(message), feature: status }],
      [m.VHOST_USER_GET_STATUS, { handle: (message) => this.getStatus(message), feature: status }],

      [
        m.VHOST_USER_SET_MEM_TABLE,
        { handle: (message) => this.setMemTable(message), fds: upTo(m.VHOST_MEMORY_BASELINE_NREGIONS) },
      ],
      [m.VHOST_USER_GET_MAX_MEM_SLOTS, { handle: (message) => this.getMaxMemSlots(message), feature: slots }],
      [
        m.VHOST_USER_ADD_MEM_REG,
        { handle: (message) => this.addMemReg(message), feature: slots, fds: (count) => count === 1 },
      ],
      [
        m.VHOST_USER_REM_MEM_REG,
        { handle: (message) => this.remMemReg(message), feature: slots, fds: upTo(1) },
      ],

      [m.VHOST_USER_GET_QUEUE_NUM, { handle: (message) => this.getQueueNum(message) }],
      [m.VHOST_USER_SET_VRING_NUM, { handle: (message) => this.setVringNum(message) }],
      [m.VHOST_USER_SET_VRING_ADDR, { handle: (message) => this.setVringAddr(message) }],
      [m.VHOST_USER_SET_VRING_BASE, { handle: (message) => this.setVringBase(message) }],
      [m.VHOST_USER_GET_VRING_BASE, { handle: (message) => this.getVringBase(message) }],
      [m.VHOST_USER_SET_VRING_KICK, { handle: (message) => this.setVringKick(message), fds: upTo(1) }],
      [m.VHOST_USER_SET_VRING_CALL, { handle: (message) => this.setVringCall(message), fds: upTo(1) }],
      [m.VHOST_USER_SET_VRING_ERR, { handle: (message) => this.setVringErr(message), fds: upTo(1) }],
      [m.VHOST_USER_SET_VRING_ENABLE, { handle: (message) => this.setVringEnable(message) }],

      // "zero length of payload to indicate an error"
      [
        m.VHOST_USER_GET_CONFIG,
        { handle: (message) => this.getConfig(message), feature: config, failure: NO_PAYLOAD },
      ],
      [
        m.VHOST_USER_SET_CONFIG,
        { handle: (message) => this.setConfig(message), feature: config, isHarmless: true },
      ],
      // A size of 0 says that there is none.
      [
        m.VHOST_USER_GET_INFLIGHT_FD,
        { handle: (message) => this.getInflightFd(message), feature: inflight, failure: NO_INFLIGHT },
      ],
      [
        m.VHOST_USER_SET_INFLIGHT_FD,
        { handle: (message) => this.setInflightFd(message), feature: inflight, fds: (count) => count === 1 },
      ],
      [
        m.VHOST_USER_SET_BACKEND_REQ_FD,
        {
          handle: (message) => this.setBackendReqFd(message),
          feature: m.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
          fds: (count) => count === 1,
        },
      ],
    ]);
  }

  private getFeatures(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(this.device.features | featureMask([m.VHOST_USER_F_PROTOCOL_FEATURES]));
  }

  /** Comes again and again, also while rings run, which it must not disturb. */
  private async setFeatures(message: Message): Promise<void> {
    const features = codec.decodeU64(message) & ~FEATURES_IGNORED;
    const offered = this.device.features | featureMask([m.VHOST_USER_F_PROTOCOL_FEATURES]);
    refuseBits("SET_FEATURES", features & ~offered);
    this.vrings.negotiate(features);
    this.features = features;
    this.device.config.negotiate(features);
    this.applyCacheMode();
    // "Ring states": without this bit the front-end doesn't know how to enable a ring.
    if (!hasFeature(features, m.VHOST_USER_F_PROTOCOL_FEATURES)) await this.vrings.enableAll();
  }

  private getProtocolFeatures(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(PROTOCOL_FEATURES);
  }

  private setProtocolFeatures(message: Message): void {
    const features = codec.decodeU64(message);
    refuseBits("SET_PROTOCOL_FEATURES", features & ~PROTOCOL_FEATURES);
    this.protocolFeatures = features;
  }

  /**
   * The cache mode stays: after a reset it "can be either writeback or writethrough" (virtio 1.4, 5.2.5), and QEMU
   * goes on showing its guest the mode that it had.
   */
  private async resetDevice(message: Message): Promise<void> {
    codec.decodeNothing(message);
    await this.vrings.reset();
    // The front-end gets a new one for the device's next life.
    this.device.inflight.clear();
    this.status = 0n;
    this.features = 0n;
    this.device.config.negotiate(0n);
    this.applyCacheMode();
  }

  /**
   * 0 stops the device (virtio 1.4, 2.1), but that is all: QEMU sends it to pause, too, up to 8.0 before it asks with
   * GET_VRING_BASE where the rings have stopped, and goes on from there.
   */
  private async setStatus(message: Message): Promise<void> {
    const status = codec.decodeU64(message);
    if (status > 0xffn) throw new ProtocolError("SET_STATUS", `status 0x${status.toString(16)}`);
    if (status === 0n) await this.vrings.stopAll();
    this.status = status;
  }

  private getStatus(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(this.status);
  }

  private async setMemTable(message: Message): Promise<void> {
    const descriptions = codec.decodeMemoryTable(message);
    if (descriptions.length !== message.fds.length) {
      throw new ProtocolError(
        "SET_MEM_TABLE",
        `${descriptions.length} regions, ${message.fds.length} descriptors`,
      );
    }
    await this.changeMemory("SET_MEM_TABLE", (memory) => {
      const fds = message.fds.splice(0);
      memory.replace(descriptions.map((description, i) => ({ description, fd: fds[i]! })));
    });
  }

  private getMaxMemSlots(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(BigInt(MAX_MEM_SLOTS));
  }

  private async addMemReg(message: Message): Promise<void> {
    const description = codec.decodeSingleRegion(message);
    if (this.device.memory.regionCount >= MAX_MEM_SLOTS) {
      throw new ProtocolError("ADD_MEM_REG", "all slots are taken");
    }
    await this.changeMemory("ADD_MEM_REG", (memory) => memory.add(description, message.fds.pop()!));
  }

  /** "If a file descriptor is passed, the back-end MUST close it without using it otherwise." */
  private async remMemReg(message: Message): Promise<void> {
    const description = codec.decodeSingleRegion(message);
    await this.changeMemory("REM_MEM_REG", (memory) => memory.remove(description));
  }

  private async changeMemory(
    request: string,
    change: (memory: SessionDevice["memory"]) => void,
  ): Promise<void> {
    await this.vrings.whileStopped(() => asFrontEnds(request, () => change(this.device.memory)));
  }

  private getInflightFd(message: Message): Payload {
    const { numQueues, queueSize } = codec.decodeInflight(message);
    if (numQueues > this.device.queueCount) {
      throw new ProtocolError("GET_INFLIGHT_FD", `${numQueues} queues of ${this.device.queueCount}`);
    }
    const { description, fd } = asFrontEnds("GET_INFLIGHT_FD", () =>
      createInflightRegion(numQueues, queueSize, this.vrings.format.packed),
    );
    this.replyFds.push(fd);
    // As long as the request: QEMU pads it and counts on that.
    return codec.encodeInflight(description, message.payload.length);
  }

  private async setInflightFd(message: Message): Promise<void> {
    const description = codec.decodeInflight(message);
    await this.vrings.whileStopped(() =>
      asFrontEnds("SET_INFLIGHT_FD", () => this.device.inflight.set(description, message.fds.pop()!)),
    );
  }

  private getQueueNum(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(BigInt(this.device.queueCount));
  }

  private setVringNum(message: Message): void {
    const { index, num } = codec.decodeVringState(message);
    this.vrings.at(index, "SET_VRING_NUM").setSize(num, this.vrings.format);
  }

  private async setVringAddr(message: Message): Promise<void> {
    const { index, flags, ...addresses } = codec.decodeVringAddress(message);
    const vring = this.vrings.at(index, "SET_VRING_ADDR");
    // Writes to the used ring would have to be logged, which VHOST_F_LOG_ALL would offer.
    if (flags !== 0) throw vring.refusal("SET_VRING_ADDR", `flags 0x${flags.toString(16)}`);
    await this.vrings.setAddresses(vring, addresses);
  }

  private setVringBase(message: Message): void {
    const { index, num } = codec.decodeVringState(message);
    this.vrings.at(index, "SET_VRING_BASE").setBase(num, this.vrings.format);
  }

  private async getVringBase(message: Message): Promise<Payload> {
    const { index } = codec.decodeVringState(message);
    const isSuspend = this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT);
    const num = await this.vrings.stopForBase(this.vrings.at(index, "GET_VRING_BASE"), isSuspend);
    return codec.encodeVringState({ index, num });
  }

  private async setVringKick(message: Message): Promise<void> {
    const vring = this.notifiedVring(message);
    await this.vrings.setKick(vring, message.fds.pop() ?? NO_FD);
  }

  private async setVringCall(message: Message): Promise<void> {
    const vring = this.notifiedVring(message);
    await this.vrings.setCall(vring, message.fds.pop() ?? NO_FD);
  }

  private setVringErr(message: Message): void {
    const vring = this.notifiedVring(message);
    vring.setErr(message.fds.pop() ?? NO_FD);
  }

  /** The ring that a kick, call or error descriptor is for, once it is sure that there is a good one or none. */
  private notifiedVring(message: Message): Vring {
    const value = Number(codec.decodeU64(message) & 0xffffn);
    const name = m.requestName(message.request);
    const vring = this.vrings.at(value & m.VHOST_USER_VRING_IDX_MASK, name);
    const [fd] = message.fds;
    const hasFd = (value & m.VHOST_USER_VRING_NOFD_MASK) === 0;
    if (hasFd !== (fd !== undefined))
      throw vring.refusal(name, hasFd ? "no descriptor" : "an unexpected descriptor");
    if (fd !== undefined && !isNotifier(fd)) throw vring.refusal(name, "no eventfd, pipe or socket");
    return vring;
  }

  private async setVringEnable(message: Message): Promise<void> {
    const { index, num } = codec.decodeVringState(message);
    const vring = this.vrings.at(index, "SET_VRING_ENABLE");
    if (num > 1) throw vring.refusal("SET_VRING_ENABLE", `num ${num}`);
    await this.vrings.setEnabled(vring, num === 1);
  }

  private getConfig(message: Message): Payload {
    const { offset, flags, bytes } = codec.decodeConfig(message);
    this.hasReadConfig = true;
    return codec.encodeConfig({ offset, flags, bytes: this.device.config.read(offset, bytes.length) });
  }

  private setConfig(message: Message): void {
    const { offset, flags, bytes } = codec.decodeConfig(message);
    this.device.config.write(offset, bytes, flags);
    this.applyCacheMode();
  }

  private setBackendReqFd(message: Message): void {
    this.setBackendRequestFd(message.fds.pop()!);
  }

  private setBackendRequestFd(fd: number): void {
    if (this.backendRequestFd !== NO_FD) close(this.backendRequestFd);
    this.backendRequestFd = fd;
  }

  private applyCacheMode(): void {
    this.device.cacheMode.set(this.device.config.writeThrough);
  }

  /** A front-end that has not read the config shows its driver one from before, with the cache mode chosen then. */
  private beforeFirstStart(start: VringStart): void {
    const isConfigOld = this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIG) && !this.hasReadConfig;
    if (!isConfigOld && !hasPast(start, this.device.memory)) return;
    this.device.config.inherit();
    this.applyCacheMode();
  }
}

/** Acknowledged with an error, or ignored if nothing is waiting for it. */
function unknownRequest(request: number): Request {
  return {
    handle: () => {
      throw new ProtocolError(m.requestName(request), "not supported");
    },
    fds: () => true,
    isHarmless: !REPLIED_ELSEWHERE.has(request),
  };
}

/** Also what the kernel says to a descriptor or an address of the front-end's. */
function isFrontEndsFault(error: unknown): error is ProtocolError | SystemError {
  return error instanceof ProtocolError || error instanceof SystemError;
}

/** Memory that can't be used is the fault of the request that brought it. */
function asFrontEnds<T>(request: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof GuestMemoryError) throw new ProtocolError(request, error.message);
    throw error;
  }
}

function refuseBits(request: string, bits: bigint): void {
  if (bits !== 0n) throw new ProtocolError(request, `bits 0x${bits.toString(16)} were not offered`);
}
