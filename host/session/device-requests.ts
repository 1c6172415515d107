// Requests about the device itself: what is negotiated, its status, its reset, its config space, and its own messages.
import { VIRTIO_F_VERSION_1 } from "../../assembly/spec/virtqueue.ts";
import type { Device, DeviceMessage } from "../devices/device.ts";
import { DeviceTooSlow, inTime } from "../devices/patience.ts";
import { ProtocolError } from "../errors.ts";
import { close } from "../linux/libc.ts";
import * as codec from "../protocol/codec.ts";
import type { Message } from "../protocol/connection.ts";
import { hasFeature } from "../protocol/feature-bits.ts";
import * as m from "../protocol/messages.ts";
import { BackendChannel } from "./backend-channel.ts";
import { ConfigNews } from "./config-news.ts";
import { ConfigWrites, readConfig, writeConfig } from "./config-space.ts";
import { LOG_BIT, offeredFeatures, offeredProtocolFeatures, PROTOCOL_BIT } from "./device-features.ts";
import type { LogRequests } from "./log-requests.ts";
import type { SessionInflight } from "./memory-requests.ts";
import { asOutOfRange, type Payload, type Request } from "./request.ts";
import type { SessionSeat } from "./seat.ts";
import type { NegotiatedState } from "./session-state.ts";
import type { Vrings } from "./vrings.ts";

const NOT_THE_DEVICES = PROTOCOL_BIT | LOG_BIT;

export class DeviceRequests {
  /** As negotiated so far. */
  features = 0n;
  protocolFeatures = 0n;
  private status = 0n;
  /** A front-end that has not read the config space shows its driver one from before. */
  private hasReadConfig = false;
  private readonly writes = new ConfigWrites();
  private readonly channel = new BackendChannel();
  private restored: Pick<NegotiatedState, "channel" | "news"> | undefined;
  /** Of the config space. */
  readonly news: ConfigNews;
  private readonly offered: bigint;
  private readonly offeredProtocol: bigint;

  constructor(
    private readonly device: Device,
    packed: boolean,
    private readonly vrings: Vrings,
    private readonly inflight: Pick<SessionInflight, "clear">,
    private readonly seat: Pick<SessionSeat, "isTaken" | "take">,
    private readonly log: Pick<LogRequests, "negotiate">,
    isServing: () => boolean,
  ) {
    this.news = new ConfigNews(() => this.channel.configChanged(), isServing);
    this.offered = offeredFeatures(device, packed);
    this.offeredProtocol = offeredProtocolFeatures(device);
  }

  /** Nothing that a front-end before this one chose counts, but what this one has said so far. */
  seated(): void {
    const { device } = this;
    device.connected?.();
    device.negotiated?.(0n);
    const features = this.features & ~NOT_THE_DEVICES;
    if (features !== 0n) device.negotiated?.(features);
    if (device.config !== undefined) this.writes.repeat(device.config);
  }

  unseated(): void {
    this.device.disconnected?.();
  }

  save(): NegotiatedState {
    const { features, protocolFeatures, status, hasReadConfig } = this;
    const [channel, news] = [this.channel.save(), this.news.save()];
    return { features, protocolFeatures, status, hasReadConfig, writes: this.writes.all, channel, news };
  }

  /** Why what was negotiated with another process can't be gone on with. Undefined: it can. */
  misfit({ features, protocolFeatures }: NegotiatedState): string | undefined {
    const lacking = features & ~this.offered;
    if (lacking !== 0n) return `features 0x${lacking.toString(16)} are not offered any more`;
    const lackingProtocol = protocolFeatures & ~this.offeredProtocol;
    if (lackingProtocol === 0n) return undefined;
    return `protocol features 0x${lackingProtocol.toString(16)} are not offered any more`;
  }

  /** What was said to a predecessor. The device hears of it when the front-end takes its seat. */
  restore({ writes, channel, news, ...told }: NegotiatedState): void {
    Object.assign(this, told);
    for (const { offset, bytes, flags } of writes) this.writes.add(offset, bytes, flags);
    this.restored = { channel, news };
  }

  /** What a predecessor had begun to tell, once that tells nothing any more. */
  goOn(): void {
    const { channel, news } = this.restored ?? {};
    if (channel) this.channel.restore(channel);
    if (news) this.news.restore(news);
    this.restored = undefined;
  }

  end(): void {
    const { channel } = this.restored ?? {};
    if (channel) close(channel.socket.fd);
    this.restored = undefined;
    this.news.end();
    this.channel.close();
  }

  hasProtocolFeature(bit: number): boolean {
    return hasFeature(this.protocolFeatures, bit);
  }

  /** Whether the driver may know the config space from before this front-end came. */
  get isConfigOld(): boolean {
    return this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIG) && !this.hasReadConfig;
  }

  /** "When VHOST_USER_PROTOCOL_F_CONFIG is negotiated": others would not know what a message about it means. */
  get hearsOfConfigChanges(): boolean {
    const needed = [m.VHOST_USER_PROTOCOL_F_BACKEND_REQ, m.VHOST_USER_PROTOCOL_F_CONFIG];
    return needed.every((bit) => this.hasProtocolFeature(bit));
  }

  getFeatures(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(this.offered);
  }

  /** Comes again and again, also while rings run, which it must not disturb. */
  async setFeatures(message: Message): Promise<void> {
    const features = codec.decodeU64(message) & ~(this.device.ignoredFeatures ?? 0n);
    refuseBits("SET_FEATURES", features & ~this.offered);
    this.refuseWithout(features);
    await this.log.negotiate((features & LOG_BIT) !== 0n);
    this.vrings.negotiate(features);
    this.negotiate(features);
    // "Ring states": without this bit the front-end doesn't know how to enable a ring.
    if ((features & PROTOCOL_BIT) === 0n) await this.vrings.enableAll();
  }

  getProtocolFeatures(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(this.offeredProtocol);
  }

  setProtocolFeatures(message: Message): void {
    const features = codec.decodeU64(message);
    refuseBits("SET_PROTOCOL_FEATURES", features & ~this.offeredProtocol);
    this.protocolFeatures = features;
  }

  async resetDevice(message: Message): Promise<void> {
    codec.decodeNothing(message);
    await this.vrings.reset();
    // The front-end gets a new one for the device's next life.
    this.inflight.clear();
    this.status = 0n;
    this.features = 0n;
    await this.log.negotiate(false);
    if (!this.seat.isTaken) return;
    this.device.reset?.();
    this.device.negotiated?.(0n);
  }

  /**
   * 0 stops the device (virtio 1.4, 2.1), but that is all: QEMU sends it to pause, too, up to 8.0 before it asks with
   * GET_VRING_BASE where the rings have stopped, and goes on from there.
   */
  async setStatus(message: Message): Promise<void> {
    const status = codec.decodeU64(message);
    if (status > 0xffn) throw new ProtocolError("SET_STATUS", `status 0x${status.toString(16)}`);
    if (status === 0n) await this.vrings.stopAll();
    this.status = status;
  }

  getStatus(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(this.status);
  }

  getConfig(message: Message): Payload {
    const { offset, flags, bytes } = codec.decodeConfig(message);
    this.hasReadConfig = true;
    this.news.read();
    // A device without a space offers no protocol feature that would bring this request.
    const part = readConfig(this.device.config!, offset, bytes.length);
    return codec.encodeConfig({ offset, flags, bytes: part });
  }

  async setConfig(message: Message): Promise<void> {
    const { offset, flags, bytes } = codec.decodeConfig(message);
    await this.seat.take("SET_CONFIG");
    writeConfig(this.device.config!, offset, bytes, flags);
    this.writes.add(offset, bytes, flags);
  }

  setBackendReqFd(message: Message): void {
    this.channel.open(message.fds.pop()!);
  }

  /** Requests of the device's own, as the session's table has its own. */
  ownRequests(): [number, Request][] {
    return [...(this.device.messages ?? [])].map(([number, own]) => [
      number,
      { handle: (message) => this.handOver(own, message), fds: (count) => count === own.fds },
    ]);
  }

  /** Without VERSION_1 there is no driver yet: front-ends forget what one had accepted. */
  private refuseWithout(features: bigint): void {
    const missing = (this.device.requiredFeatures ?? 0n) & ~features;
    if (missing === 0n || !hasFeature(features, VIRTIO_F_VERSION_1)) return;
    const reason = `the driver has not accepted bits 0x${missing.toString(16)}, without which the device can't be used`;
    throw new ProtocolError("SET_FEATURES", reason);
  }

  private negotiate(features: bigint): void {
    const before = this.features;
    this.features = features;
    if (this.seat.isTaken && (before ^ features) & ~NOT_THE_DEVICES)
      this.device.negotiated?.(features & ~NOT_THE_DEVICES);
  }

  /** What a device makes of its own messages is about the guest that it has. */
  private async handOver(own: DeviceMessage, message: Message): Promise<Payload> {
    const name = m.requestName(message.request);
    await this.seat.take(name);
    try {
      return await inTime(own.handle(message.payload, message.fds.splice(0)));
    } catch (error) {
      throw error instanceof DeviceTooSlow
        ? new ProtocolError(name, error.message)
        : asOutOfRange(name, error);
    }
  }
}

function refuseBits(request: string, bits: bigint): void {
  if (bits !== 0n) throw new ProtocolError(request, `bits 0x${bits.toString(16)} were not offered`);
}
