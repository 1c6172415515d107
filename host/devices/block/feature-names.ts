// The feature bits of a disk (virtio 1.4, 5.2.3), and legacy ones (5.2.3.1) that back-ends still offer.
import type { FeatureNames } from "../../protocol/feature-names.ts";

export const BLOCK_FEATURE_NAMES: FeatureNames = {
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
};
