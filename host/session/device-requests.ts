// Requests about the device itself: what is negotiated, its status, its reset, its config space, and its own messages.
import type { Device, DeviceMessage } from "../devices/device.ts";
import { ProtocolError } from "../errors.ts";
import * as codec from "../protocol/codec.ts";
import type { Message } from "../protocol/connection.ts";
import { hasFeature } from "../protocol/feature-bits.ts";
import * as m from "../protocol/messages.ts";
import { BackendChannel } from "./backend-channel.ts";
import { readConfig, writeConfig } from "./config-space.ts";
import { offeredFeatures, offeredProtocolFeatures, PROTOCOL_BIT } from "./device-features.ts";
import type { SessionInflight } from "./memory-requests.ts";
import { asOutOfRange, type Payload, type Request } from "./request.ts";
import type { Vrings } from "./vrings.ts";

export class DeviceRequests {
  /** As negotiated so far. */
  features = 0n;
  protocolFeatures = 0n;
  private status = 0n;
  /** A front-end that has not read the config space shows its driver one from before. */
  private hasReadConfig = false;
  private readonly channel = new BackendChannel();
  private readonly offered: bigint;
  private readonly offeredProtocol: bigint;

  constructor(
    private readonly device: Device,
    packed: boolean,
    private readonly vrings: Vrings,
    private readonly inflight: Pick<SessionInflight, "clear">,
  ) {
    this.offered = offeredFeatures(device, packed);
    this.offeredProtocol = offeredProtocolFeatures(device);
  }

  /** Nothing that a front-end before this one chose counts. */
  begin(): void {
    this.device.connected?.();
    this.device.negotiated?.(0n);
  }

  end(): void {
    this.channel.close();
  }

  hasProtocolFeature(bit: number): boolean {
    return hasFeature(this.protocolFeatures, bit);
  }

  /** Whether the driver may know the config space from before this front-end came. */
  get isConfigOld(): boolean {
    return this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIG) && !this.hasReadConfig;
  }

  /** "When VHOST_USER_PROTOCOL_F_CONFIG is negotiated": others would not know what it means. */
  configChanged(): void {
    if (this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIG)) this.channel.configChanged();
  }

  getFeatures(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(this.offered);
  }

  /** Comes again and again, also while rings run, which it must not disturb. */
  async setFeatures(message: Message): Promise<void> {
    const features = codec.decodeU64(message) & ~(this.device.ignoredFeatures ?? 0n);
    refuseBits("SET_FEATURES", features & ~this.offered);
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
    // A device without a space offers no protocol feature that would bring this request.
    const part = readConfig(this.device.config!, offset, bytes.length);
    return codec.encodeConfig({ offset, flags, bytes: part });
  }

  setConfig(message: Message): void {
    const { offset, flags, bytes } = codec.decodeConfig(message);
    writeConfig(this.device.config!, offset, bytes, flags);
  }

  setBackendReqFd(message: Message): void {
    this.channel.open(message.fds.pop()!);
  }

  /** Requests of the device's own, as the session's table has its own. */
  ownRequests(): [number, Request][] {
    return [...(this.device.messages ?? [])].map(([number, own]) => [
      number,
      { handle: (message) => handOver(own, message), fds: (count) => count === own.fds },
    ]);
  }

  private negotiate(features: bigint): void {
    const before = this.features;
    this.features = features;
    if ((before ^ features) & ~PROTOCOL_BIT) this.device.negotiated?.(features & ~PROTOCOL_BIT);
  }
}

async function handOver(own: DeviceMessage, message: Message): Promise<Payload> {
  try {
    return await own.handle(message.payload, message.fds.splice(0));
  } catch (error) {
    throw asOutOfRange(m.requestName(message.request), error);
  }
}

function refuseBits(request: string, bits: bigint): void {
  if (bits !== 0n) throw new ProtocolError(request, `bits 0x${bits.toString(16)} were not offered`);
}
