// What --blk-file names: a file, or a disk of another kind by its scheme, maybe under an overlay.
import type { BlockDisk } from "../disk/block-disk.ts";
import { MemoryDisk } from "../disk/memory-disk.ts";
import { isNbdUri } from "../disk/nbd/uri.ts";
import { OverlayDisk } from "../disk/overlay/overlay-disk.ts";
import { StartError } from "../errors.ts";
import type { Log } from "../log.ts";
import { Disk, type DiskOptions, serialOf } from "./disk.ts";
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
  const named = await openScheme(options, stopping, log);
  if (options.overlay === undefined && named === undefined) return Disk.open(options, stopping, log);
  try {
    return await openObject(named, options, stopping, log);
  } catch (error) {
    await named?.close?.();
    throw error;
  }
}

async function openObject(
  named: BlockDisk | undefined,
  options: DiskChoice,
  stopping: AbortSignal,
  log: Log,
): Promise<Disk> {
  const { path, overlay, direct } = options;
  if (direct) throw new StartError(`${overlay ?? path} is served without O_DIRECT, so leave out --direct`);
  const object =
    overlay === undefined ? named! : await openOverlay(overlay, named ?? path, options, stopping, log);
  return describeObject(object, {
    ...options,
    name: path,
    serial: options.serial ?? object.serial ?? serialOf(path),
  });
}

function openOverlay(
  path: string,
  base: string | BlockDisk,
  { readOnly, lock, lockTimeoutMs }: DiskChoice,
  signal: AbortSignal,
  log: Log,
): Promise<BlockDisk> {
  return OverlayDisk.open({ path, base, readOnly, lock, lockTimeoutMs, signal, log });
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

async function openNbd(options: DiskChoice, stopping: AbortSignal, log: Log): Promise<BlockDisk> {
  const { path, overlay } = options;
  // What lies under an overlay is never written to.
  const readOnly = options.readOnly || overlay !== undefined;
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
