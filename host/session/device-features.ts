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

/** `packed`: whether packed rings are offered too. */
export function offeredFeatures(device: Pick<Device, "features">, packed: boolean): bigint {
  const ofRings = [VIRTIO_F_VERSION_1, VIRTIO_F_RING_INDIRECT_DESC, VIRTIO_F_RING_EVENT_IDX];
  return device.features | featureMask(packed ? [...ofRings, VIRTIO_F_RING_PACKED] : ofRings) | PROTOCOL_BIT;
}

export function offeredProtocolFeatures({ config, inflight }: Pick<Device, "config" | "inflight">): bigint {
  return featureMask([
    ...OF_EVERY_DEVICE,
    ...(config === undefined ? [] : [m.VHOST_USER_PROTOCOL_F_CONFIG]),
    ...(inflight ? OF_TRACKED_DEVICES : []),
  ]);
}
