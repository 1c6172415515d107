// What a device makes the back-end offer: feature bits of the device and of its rings, and features of the protocol.
import {
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../../assembly/spec/virtqueue.ts";
import type { Device } from "../devices/device.ts";
import { featureMask } from "../protocol/feature-bits.ts";
import * as m from "../protocol/messages.ts";

/** The one bit between virtio's own that belongs to the protocol ("Communication"). */
export const PROTOCOL_BIT = featureMask([m.VHOST_USER_F_PROTOCOL_FEATURES]);

const OF_EVERY_DEVICE = [
  m.VHOST_USER_PROTOCOL_F_MQ,
  m.VHOST_USER_PROTOCOL_F_REPLY_ACK,
  m.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  m.VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  m.VHOST_USER_PROTOCOL_F_STATUS,
];

/** Where what is in flight outlives this process, rings can also be stopped without waiting for it. */
const OF_TRACKED_DEVICES = [
  m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  m.VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT,
];

/** Of the protocol, beside PROTOCOL_BIT: that what is written is to be logged. */
export const LOG_BIT = featureMask([m.VHOST_F_LOG_ALL]);

/** `packed`: whether packed rings are offered too. */
export function offeredFeatures(device: Pick<Device, "features" | "migrates">, packed: boolean): bigint {
  const ofRings = [VIRTIO_F_VERSION_1, VIRTIO_F_RING_INDIRECT_DESC, VIRTIO_F_RING_EVENT_IDX];
  const own = device.features | (device.migrates ? LOG_BIT : 0n);
  return own | featureMask(packed ? [...ofRings, VIRTIO_F_RING_PACKED] : ofRings) | PROTOCOL_BIT;
}

export function offeredProtocolFeatures({
  config,
  inflight,
  migrates,
  state,
}: Pick<Device, "config" | "inflight" | "migrates" | "state">): bigint {
  return featureMask([
    ...OF_EVERY_DEVICE,
    ...(config === undefined ? [] : [m.VHOST_USER_PROTOCOL_F_CONFIG]),
    ...(migrates ? [m.VHOST_USER_PROTOCOL_F_LOG_SHMFD] : []),
    ...(state === undefined ? [] : [m.VHOST_USER_PROTOCOL_F_DEVICE_STATE]),
    ...(inflight ? OF_TRACKED_DEVICES : []),
  ]);
}
