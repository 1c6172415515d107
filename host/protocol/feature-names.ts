// Feature bits by the names that the specifications give them.
import * as messages from "./messages.ts";

export type FeatureNames = Readonly<Record<number, string>>;

const BITS = 64;

/** Virtio 1.4, 6; legacy names (6.3) where back-ends still offer them; and vhost's own. Others belong to the device's type. */
const COMMON_FEATURES: FeatureNames = {
  24: "VIRTIO_F_NOTIFY_ON_EMPTY",
  26: "VHOST_F_LOG_ALL",
  27: "VIRTIO_F_ANY_LAYOUT",
  28: "VIRTIO_F_INDIRECT_DESC",
  29: "VIRTIO_F_EVENT_IDX",
  30: "VHOST_USER_F_PROTOCOL_FEATURES",
  32: "VIRTIO_F_VERSION_1",
  33: "VIRTIO_F_ACCESS_PLATFORM",
  34: "VIRTIO_F_RING_PACKED",
  35: "VIRTIO_F_IN_ORDER",
  36: "VIRTIO_F_ORDER_PLATFORM",
  37: "VIRTIO_F_SR_IOV",
  38: "VIRTIO_F_NOTIFICATION_DATA",
  39: "VIRTIO_F_NOTIF_CONFIG_DATA",
  40: "VIRTIO_F_RING_RESET",
  41: "VIRTIO_F_ADMIN_VQ",
};

const PROTOCOL_FEATURE = /^VHOST_USER_PROTOCOL_F_/;

const PROTOCOL_FEATURES: FeatureNames = Object.fromEntries(
  Object.entries(messages)
    .filter(([name]) => PROTOCOL_FEATURE.test(name))
    .map(([name, bit]) => [bit as number, name]),
);

/** In the order of the bits. `own`: what the device's type calls its bits. A bit without a name is called "bit N". */
export function featureNames(mask: bigint, own: FeatureNames = {}): string[] {
  return namesOf(mask, { ...own, ...COMMON_FEATURES });
}

export function protocolFeatureNames(mask: bigint): string[] {
  return namesOf(mask, PROTOCOL_FEATURES);
}

function namesOf(mask: bigint, names: FeatureNames): string[] {
  const bits = Array.from({ length: BITS }, (_, bit) => bit);
  return bits.filter((bit) => (mask >> BigInt(bit)) & 1n).map((bit) => names[bit] ?? `bit ${bit}`);
}
