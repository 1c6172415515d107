// Feature bits by the names that the specifications give them.
import * as messages from "../protocol/messages.ts";

/** Virtio 1.4, 5.2.3 and 6; legacy names (5.2.3.1, 6.3) where back-ends still offer them; and vhost's own. */
const BLK_FEATURES: Readonly<Record<number, string>> = {
  0: "VIRTIO_BLK_F_BARRIER",
  1: "VIRTIO_BLK_F_SIZE_MAX",
  2: "VIRTIO_BLK_F_SEG_MAX",
  4: "VIRTIO_BLK_F_GEOMETRY",
  5: "VIRTIO_BLK_F_RO",
  6: "VIRTIO_BLK_F_BLK_SIZE",
  7: "VIRTIO_BLK_F_SCSI",
  9: "VIRTIO_BLK_F_FLUSH",
  10: "VIRTIO_BLK_F_TOPOLOGY",
  11: "VIRTIO_BLK_F_CONFIG_WCE",
  12: "VIRTIO_BLK_F_MQ",
  13: "VIRTIO_BLK_F_DISCARD",
  14: "VIRTIO_BLK_F_WRITE_ZEROES",
  15: "VIRTIO_BLK_F_LIFETIME",
  16: "VIRTIO_BLK_F_SECURE_ERASE",
  17: "VIRTIO_BLK_F_ZONED",
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

const PROTOCOL_FEATURES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(messages)
    .filter(([name]) => PROTOCOL_FEATURE.test(name))
    .map(([name, bit]) => [bit as number, name]),
);

/** Of a block device; a bit without a name is called "bit N". In the order of the bits. */
export function featureNames(mask: bigint): string[] {
  return namesOf(mask, BLK_FEATURES);
}

export function protocolFeatureNames(mask: bigint): string[] {
  return namesOf(mask, PROTOCOL_FEATURES);
}

function namesOf(mask: bigint, names: Readonly<Record<number, string>>): string[] {
  const bits = Array.from({ length: 64 }, (_, bit) => bit);
  return bits.filter((bit) => (mask >> BigInt(bit)) & 1n).map((bit) => names[bit] ?? `bit ${bit}`);
}
