// Who uses a block device, or the file of one, beside us: the host's own file systems, swap and layers, and other processes.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { filePath } from "../process/paths.ts";
import { BlockSysfs, loopDevices } from "./block-sysfs.ts";
import { type DeviceNumber, deviceNumber, type FileStatus } from "./file-status.ts";
import { isEnding, type Process } from "./lock-holder.ts";
import { isSwap, mountPointOf } from "./mounts.ts";

/** Layers upon layers: device mapper on RAID on partitions. */
const DEPTH_MAX = 8;

/** What the host does with the device, in words that follow "is": "mounted at /srv". Undefined: nothing that can be seen. */
export function hostUseOf(number: DeviceNumber): string | undefined {
  const device = new BlockSysfs(number);
  return useFromAbove(device, DEPTH_MAX) ?? useOfParent(device);
}

function useFromAbove(device: BlockSysfs, depth: number): string | undefined {
  const own = ownUse(device.number);
  if (own !== undefined || depth === 0) return own;
  for (const holder of device.holders) {
    const above = useFromAbove(holder, depth - 1);
    return `part of ${holder.name}${above === undefined ? "" : `, which is ${above}`}`;
  }
  for (const partition of device.partitions) {
    const use = useFromAbove(partition, depth - 1);
    if (use !== undefined) return `in use: its partition ${partition.name} is ${use}`;
  }
  return undefined;
}

/** Who has the whole disk has its partitions, too; another partition is none of our concern. */
function useOfParent({ parent }: BlockSysfs): string | undefined {
  if (parent === undefined) return undefined;
  const [holder] = parent.holders;
  const use = ownUse(parent.number) ?? (holder && `part of ${holder.name}`);
  return use && `in use: its disk ${parent.name} is ${use}`;
}

function ownUse(number: DeviceNumber): string | undefined {
  const point = mountPointOf(number);
  if (point !== undefined) return `mounted at ${point}`;
  return isSwap(number) ? "used as swap" : undefined;
}

export interface LoopUse {
  /** Such as "loop0". */
  loop: string;
  /** What the host does with that, as hostUseOf() has it. */
  use: string | undefined;
}

/** The loop device that the file is attached to; one that the host uses, if there is one. */
export function loopUseOf(file: FileStatus): LoopUse | undefined {
  const uses = loopDevices()
    .filter(({ backingFile }) => isSameFile(backingFile!, file))
    .map((loop) => ({ loop: loop.name, use: hostUseOf(loop.number) }));
  return uses.find(({ use }) => use !== undefined) ?? uses[0];
}

function isSameFile(path: string, { inode, liesOn }: FileStatus): boolean {
  try {
    const { ino, dev } = statSync(filePath(path), { bigint: true });
    return ino === inode && deviceNumber(dev) === liesOn;
  } catch {
    return false;
  }
}

/** Another process that lives and has the device open, where we may see that. */
export function findUserOf(number: DeviceNumber): Process | undefined {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const pid = pids.find((candidate) => hasOpen(candidate, number) && !isEnding(candidate));
  return pid === undefined ? undefined : { pid: Number(pid), name: nameOf(pid) };
}

function hasOpen(pid: string, number: DeviceNumber): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => isDevice(`/proc/${pid}/fd/${fd}`, number));
  } catch {
    return false;
  }
}

function isDevice(path: string, number: DeviceNumber): boolean {
  try {
    const stats = statSync(path, { bigint: true });
    return stats.isBlockDevice() && deviceNumber(stats.rdev) === number;
  } catch {
    return false;
  }
}

function nameOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return "a process";
  }
}
