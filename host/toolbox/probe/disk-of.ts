// The disk that a back-end has, if it has one. No request of the protocol asks for the type of a device.
import * as blk from "../../../assembly/spec/virtio-blk.ts";
import { type DiskFacts, diskFacts, whyNoDisk } from "../../front-end/disk-facts.ts";
import type { FrontEnd } from "../../front-end/front-end.ts";
import { featureMask } from "../../protocol/feature-bits.ts";
import { NoBlockDevice } from "../attach.ts";

/** Of a device that its user calls a disk. Throws NoBlockDevice. */
export function diskOf({ config, backendFeatures }: FrontEnd): DiskFacts {
  const found = diskIn(config, backendFeatures);
  if ("reason" in found) throw new NoBlockDevice(found.reason);
  return found.disk;
}

/** What a disk is, or a phrase that says why it can't be one. */
export type Found = { disk: DiskFacts } | { reason: string };

/** The fields of virtio 1.1, which every disk has. */
const CONFIG_LEAST = 60;

/** Other devices have features as low as these, but none whose configuration space could be a disk's has one that a disk has, too. */
const FEATURES_OF_DISKS = featureMask([
  blk.VIRTIO_BLK_F_RO,
  blk.VIRTIO_BLK_F_BLK_SIZE,
  blk.VIRTIO_BLK_F_FLUSH,
  blk.VIRTIO_BLK_F_TOPOLOGY,
  blk.VIRTIO_BLK_F_CONFIG_WCE,
  blk.VIRTIO_BLK_F_MQ,
  blk.VIRTIO_BLK_F_DISCARD,
  blk.VIRTIO_BLK_F_WRITE_ZEROES,
]);

/** Of a device of any type. */
export function lookForDisk(config: Buffer, features: bigint): Found {
  if (config.length > 0 && (features & FEATURES_OF_DISKS) === 0n)
    return { reason: "it offers no feature of a disk" };
  return diskIn(config, features);
}

function diskIn(config: Buffer, features: bigint): Found {
  if (config.length === 0) return { reason: "it gives no configuration space" };
  if (config.length < CONFIG_LEAST)
    return { reason: `its configuration space has ${config.length} bytes, fewer than a disk's` };
  const disk = diskFacts(config, features);
  const reason = whyNoDisk(disk);
  return reason === undefined ? { disk } : { reason };
}
