// What --blk-file names: a file, or a disk of another kind by its scheme, maybe under an overlay.
import type { BlockDisk } from "../disk/block-disk.ts";
import { MemoryDisk } from "../disk/memory-disk.ts";
import { isNbdUri } from "../disk/nbd/uri.ts";
import { StartError } from "../errors.ts";
import type { Log } from "../log.ts";
import { Disk, type DiskOptions } from "./disk.ts";
import { describeObject } from "./object-disk.ts";

export interface DiskChoice extends DiskOptions {
  /** Where changes go instead: the file that keeps them. */
  overlay?: string | undefined;
}

/** Opens the disk that follows a scheme's colon. */
type Open = (rest: string, options: DiskChoice) => BlockDisk | Promise<BlockDisk>;

const SCHEMES: Readonly<Record<string, Open>> = {
  memory: openMemory,
};

/** `stopping` ends a wait for the image's lock. Throws StartError. */
export async function openDisk(options: DiskChoice, stopping: AbortSignal, log: Log): Promise<Disk> {
  const { path } = options;
  const object = await openScheme(options, stopping, log);
  if (object === undefined) return Disk.open(options, stopping, log);
  if (options.direct) throw new StartError(`${path} is no file, so leave out --direct`);
  return describeObject(object, { ...options, name: path });
}

async function openScheme(
  options: DiskChoice,
  stopping: AbortSignal,
  log: Log,
): Promise<BlockDisk | undefined> {
  if (isNbdUri(options.path)) return openNbd(options, stopping, log);
  const [, scheme, rest] = /^([a-z]+):(.*)$/s.exec(options.path) ?? [];
  const open = scheme === undefined ? undefined : SCHEMES[scheme];
  return open?.(rest!, options);
}

async function openNbd({ path, readOnly }: DiskChoice, stopping: AbortSignal, log: Log): Promise<BlockDisk> {
  // Files don't wait for sockets and TLS to load.
  const { openNbdDisk } = await import("../disk/nbd/disk.ts");
  return openNbdDisk(path, { readOnly, log, stopping });
}

const UNITS = "KMGT";

/** "memory:512M" */
function openMemory(size: string): MemoryDisk {
  const [, digits, unit] = /^(\d{1,15})([KMGT]?)$/.exec(size) ?? [];
  const byteLength =
    digits === undefined ? 0n : BigInt(digits) * 1024n ** BigInt(unit ? UNITS.indexOf(unit) + 1 : 0);
  if (byteLength <= 0n || byteLength % 512n !== 0n || byteLength > MEMORY_MAX) {
    throw new StartError(
      `memory:${size} has no size that a disk can have; give a multiple of 512 bytes, such as memory:512M`,
    );
  }
  return new MemoryDisk(byteLength);
}

/** What a number in JavaScript counts exactly. */
const MEMORY_MAX = 1n << 53n;
