// Which disk this is, for as long as it exists: what a serial number, and what is remembered of it, are made from.
//
// Neither names nor numbers of devices will do: two images are called disk.img, and /dev/sdb is another disk after a restart.
import { createHash } from "node:crypto";
import { closeSync, constants, openSync, readdirSync, statSync } from "node:fs";
import { VIRTIO_BLK_ID_BYTES } from "../../../assembly/spec/virtio-blk.ts";
import { BlockSysfs } from "../../linux/block-sysfs.ts";
import { type DeviceNumber, deviceNumber, fileStatus, S_IFBLK } from "../../linux/file-status.ts";
import { fileSystemOf, fileSystemUuid } from "../../linux/file-system.ts";
import { mountSource } from "../../linux/mounts.ts";
import { filePath } from "../../process/paths.ts";
import { shownText } from "../../process/shown.ts";

export interface Identity {
  /** The same as long as the disk exists. */
  parts: readonly string[];
  /** When the file under it was made, in ns since 1970; 0 where nobody knows. Inodes of removed files are used again. */
  bornNs: bigint;
}

/** Of an open file or block device. */
export function identityOf(fd: number): Identity {
  const { type, represents } = fileStatus(fd);
  return type === S_IFBLK ? deviceIdentity(new BlockSysfs(represents)) : fileIdentity(fd);
}

/** 20 hexadecimal digits: all that the ID string has room for (virtio 1.4, 5.2.6). */
export function serialFrom(parts: readonly string[]): string {
  return digestOf(parts).slice(0, VIRTIO_BLK_ID_BYTES);
}

export function digestOf(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

function fileIdentity(fd: number): Identity {
  const { inode, bornNs } = fileStatus(fd);
  return { parts: ["file", fileSystemId(fd), String(inode)], bornNs };
}

/** XFS makes its f_fsid from the device's number. */
const XFS_MAGIC = 0x58465342;
const NO_ID = "0".repeat(16);

function fileSystemId(fd: number): string {
  const { magic, id } = fileSystemOf(fd);
  if (id !== NO_ID && magic !== XFS_MAGIC) return id;
  const network = () =>
    mountSource(/^mnt_id:\s*(\d+)$/m.exec(shownText(`/proc/self/fdinfo/${fd}`))?.[1] ?? "");
  return fileSystemUuid(fd) ?? (id === NO_ID ? (network() ?? id) : id);
}

/** Names that the device itself, or who made it, has given; in sysfs, of the device or of what drives it. */
const LASTING_NAMES = [
  "dm/uuid",
  "dm/name",
  "md/uuid",
  "wwid",
  "device/wwid",
  "device/cid",
  "serial",
  "device/serial",
];

/** Exported for tests: `device` may be of a sysfs that they made. */
export function deviceIdentity(device: BlockSysfs): Identity {
  const { parent, partitionNumber } = device;
  if (parent) {
    const { parts, bornNs } = deviceIdentity(parent);
    return { parts: [...parts, "partition", partitionNumber!], bornNs };
  }
  for (const name of LASTING_NAMES) {
    const value = device.attribute(name);
    if (value !== undefined) return { parts: ["device", name, value], bornNs: 0n };
  }
  return backingIdentity(device) ?? { parts: ["device", idLinkOf(device.number) ?? device.name], bornNs: 0n };
}

/** A loop device is the file that it shows, from where it shows it. */
function backingIdentity(device: BlockSysfs): Identity | undefined {
  const { backingFile } = device;
  if (backingFile === undefined) return undefined;
  let fd: number;
  try {
    fd = openSync(filePath(backingFile), constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return { parts: ["loop", backingFile], bornNs: 0n };
  }
  try {
    const { parts, bornNs } = identityOf(fd);
    return { parts: ["loop", device.attribute("loop/offset") ?? "0", ...parts], bornNs };
  } finally {
    closeSync(fd);
  }
}

const ID_LINKS = "/dev/disk/by-id";

/** What udev calls it for good. */
function idLinkOf(number: DeviceNumber): string | undefined {
  const isOurs = (name: string) => {
    const { rdev } = statSync(`${ID_LINKS}/${name}`, { bigint: true });
    return deviceNumber(rdev) === number;
  };
  try {
    return readdirSync(ID_LINKS).sort().find(isOurs);
  } catch {
    return undefined;
  }
}
