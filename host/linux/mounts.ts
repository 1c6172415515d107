// Which devices and files the host has mounted or swaps to (proc(5): mountinfo, swaps).
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { filePath, textOfBytes } from "../process/paths.ts";
import { type DeviceNumber, deviceNumber } from "./file-status.ts";

interface Mount {
  /** Of the file system; btrfs and others have one that is no device's. */
  number: DeviceNumber;
  point: string;
  /** Often the path of a device. */
  source: string;
}

/** Where a file system on the device is mounted: as we see it, or else as processes in other mount namespaces do. */
export function mountPointOf(device: DeviceNumber): string | undefined {
  const own = mountsSeenBy("self");
  const isOurs = (mount: Mount) => mount.number === device || blockDeviceAt(mount.source) === device;
  const found = own.find(isOurs);
  if (found) return found.point;
  for (const mounts of mountsOfOthers()) {
    // Paths of another namespace may name other devices here.
    const elsewhere = mounts.find(({ number }) => number === device) ?? mounts.find(isOurs);
    if (elsewhere) return `${elsewhere.point} in another mount namespace`;
  }
  return undefined;
}

/** What a mount has its contents from, such as "server:/export", by the number of the mount (name_to_handle_at(2)). */
export function mountSource(mountId: string): string | undefined {
  return readLines("/proc/self/mountinfo")
    .find((line) => line.startsWith(`${mountId} `))
    ?.replace(/.* - \S+ (\S+) .*/, "$1");
}

/** Whether the kernel swaps to this device. */
export function isSwap(device: DeviceNumber): boolean {
  return readLines("/proc/swaps")
    .slice(1)
    .some((line) => blockDeviceAt(unescaped(line.split(/\s/, 1)[0]!)) === device);
}

function* mountsOfOthers(): Generator<Mount[]> {
  const seen = new Set([namespaceOf("self")]);
  for (const pid of readdirSync("/proc")) {
    const namespace = /^\d+$/.test(pid) ? namespaceOf(pid) : undefined;
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    yield mountsSeenBy(pid);
  }
}

/** Undefined for processes of other users, which we may not look at. */
function namespaceOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
}

/** "36 35 98:0 /root /mnt/point rw,noatime shared:1 - ext4 /dev/root rw" */
function mountsSeenBy(pid: string): Mount[] {
  return readLines(`/proc/${pid}/mountinfo`).flatMap((line) => {
    const [, number, point, source] = /^\d+ \d+ (\d+:\d+) \S+ (\S+) .* - \S+ (\S+)/.exec(line) ?? [];
    if (number === undefined) return [];
    return [{ number, point: unescaped(point!), source: unescaped(source!) }];
  });
}

/** Blanks and the like are octal there. */
function unescaped(field: string): string {
  const bytes = field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  return textOfBytes(Buffer.from(bytes, "latin1"));
}

function blockDeviceAt(path: string): DeviceNumber | undefined {
  if (!path.startsWith("/")) return undefined;
  try {
    const stats = statSync(filePath(path), { bigint: true });
    return stats.isBlockDevice() ? deviceNumber(stats.rdev) : undefined;
  } catch {
    return undefined;
  }
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, "latin1").split("\n").filter(Boolean);
  } catch {
    return [];
  }
}
