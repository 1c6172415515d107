// Opens what a name stands for: a file, or a disk of another kind by its scheme, maybe under an overlay.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { BlockDisk } from "../engines/block-disk.ts";
import { StartError } from "../errors.ts";
import { choice } from "../process/choices.ts";
import type { Log } from "../process/log.ts";
import { filePath } from "../process/paths.ts";
import { FileDisk } from "./file/file-disk.ts";
import { FileStorage, type FileStorageOptions } from "./file/file-storage.ts";
import { SIGNATURE_BYTES } from "./file/format.ts";
import { type Identity, serialFrom } from "./file/identity.ts";
import { checkRaw } from "./file/raw-check.ts";
import { recordServedRaw } from "./file/raw-record.ts";
import { handoverWanted } from "./handover-wanted.ts";
import { MemoryDisk } from "./memory.ts";
import { isNbdUri, parseNbdUri } from "./nbd/uri.ts";
import { ObjectStorage, type ObjectStorageOptions } from "./object.ts";
import { ObjectHandover } from "./object-handover.ts";
import { OverlayDisk } from "./overlay/overlay-disk.ts";
import { isRbdUri } from "./rbd/uri.ts";
import type { Inheritance, Storage } from "./storage.ts";

export interface StorageChoice extends FileStorageOptions {
  /** Where changes go instead: the file that keeps them. */
  overlay?: string | undefined;
  /** A predecessor serves it, in whose place this process will be. What is no file is opened anew, beside that one. */
  succeeds?: boolean;
}

/** Opens the disk that follows a scheme's colon. */
type Open = (rest: string, options: StorageChoice) => BlockDisk | Promise<BlockDisk>;

const SCHEMES: Readonly<Record<string, Open>> = {
  memory: openMemory,
};

/** `stopping` ends a wait for the image's lock. Throws StartError. */
export async function openStorage(choice: StorageChoice, stopping: AbortSignal, log: Log): Promise<Storage> {
  refuseAlone(choice);
  const { succeeds = false, inherited, path, overlay } = choice;
  const options = { ...choice, incoming: choice.incoming || (succeeds && inherited === undefined) };
  if (isRbdUri(path) && overlay === undefined) return openRbd(options, stopping, log);
  refuseUnknownScheme(path);
  if (!isObject(options)) return withPadding(await FileStorage.open(options, stopping, log), options);
  refuseDirect(options);
  return openObject(options, stopping, log);
}

/** Called, and not handed to the kernel. */
function isObject({ overlay, path }: StorageChoice): boolean {
  return overlay !== undefined || isReachable(path) || schemeOf(path) !== undefined;
}

/** By other processes, too, and no file. */
function isReachable(path: string): boolean {
  return isNbdUri(path) || isRbdUri(path);
}

/** Throws StartError for what can't go from one process to another, where that is wanted. */
function refuseAlone(options: StorageChoice): void {
  const { overlay, path } = options;
  const wanted = handoverWanted(options);
  if (wanted === undefined || overlay !== undefined || schemeOf(path) === undefined) return;
  throw new StartError(
    `${path} is this process's alone, and can't go to another: leave out ${choice(wanted)}`,
  );
}

/** Throws StartError. */
function refuseDirect({ path, overlay, direct }: StorageChoice): void {
  if (direct)
    throw new StartError(`${overlay ?? path} is served without O_DIRECT, so leave out ${choice("direct")}`);
}

/** The kernel reads nothing past a file's end, so that is done here, through the page cache. */
function withPadding(storage: FileStorage, options: StorageChoice): Storage {
  if (!storage.file.isPadded) return storage;
  const { inheritance } = storage;
  return new ObjectStorage(FileDisk.over(storage), {
    ...options,
    name: options.path,
    isPath: storage.facts.isPath,
    inheritance,
  });
}

async function openObject(options: StorageChoice, stopping: AbortSignal, log: Log): Promise<Storage> {
  const { path, overlay } = options;
  const named = await openScheme(options, stopping, log);
  if (overlay === undefined) {
    const more = isNbdUri(path) && { handover: exportHandover(named!, options), inheritance: ANEW };
    return asStorage(named!, { ...options, name: path, ...more });
  }
  const disk = await openOverlay(overlay, named ?? path, options, stopping, log);
  const inheritance = named === undefined || isReachable(path) ? ANEW : undefined;
  const isPath = named === undefined;
  return asStorage(disk, { ...options, name: path, isPath, handover: disk.handover, inheritance });
}

/** Closes the disk where it can't be what it says. */
async function asStorage(disk: BlockDisk, options: ObjectStorageOptions): Promise<Storage> {
  try {
    return new ObjectStorage(disk, options);
  } catch (error) {
    await disk.close?.();
    throw error;
  }
}

const ANEW: Inheritance = { kind: "anew" };

function openOverlay(
  path: string,
  base: string | BlockDisk,
  { readOnly, format, lock, lockTimeoutMs, incoming = false }: StorageChoice,
  signal: AbortSignal,
  log: Log,
): Promise<OverlayDisk> {
  return OverlayDisk.open({
    path,
    base,
    readOnly,
    ...(format && { format }),
    lock,
    lockTimeoutMs,
    incoming,
    signal,
    log,
  });
}

async function openScheme(
  options: StorageChoice,
  stopping: AbortSignal,
  log: Log,
): Promise<BlockDisk | undefined> {
  if (isNbdUri(options.path)) return openNbd(options, stopping, log);
  if (isRbdUri(options.path)) return openRbdBase(options, stopping, log);
  const found = schemeOf(options.path);
  return found?.open(found.rest, options);
}

/** Throws StartError for what is meant as an address. */
function refuseUnknownScheme(path: string): void {
  const [, scheme] = /^([a-z][a-z\d+.-]*):\/\//i.exec(path) ?? [];
  if (scheme === undefined || isReachable(path) || existsSync(filePath(path))) return;
  throw new StartError(
    `can't open ${path}: ${scheme}:// is not served: give a file, nbd://, nbd+unix://, nbds://, nbds+unix://, rbd:POOL/IMAGE or memory:SIZE`,
  );
}

async function openRbd(options: StorageChoice, stopping: AbortSignal, log: Log): Promise<Storage> {
  // Files don't wait for Ceph's libraries to load.
  const { RbdStorage } = await import("./rbd/rbd-storage.ts");
  return RbdStorage.open(options, stopping, log);
}

async function openRbdBase(options: StorageChoice, stopping: AbortSignal, log: Log): Promise<BlockDisk> {
  const { RbdBase } = await import("./rbd/rbd-base.ts");
  return RbdBase.open(options, stopping, log);
}

function schemeOf(path: string): { open: Open; rest: string } | undefined {
  const [, scheme, rest] = /^([a-z]+):(.*)$/s.exec(path) ?? [];
  const open = scheme === undefined ? undefined : SCHEMES[scheme];
  return open && { open, rest: rest! };
}

async function openNbd(options: StorageChoice, stopping: AbortSignal, log: Log): Promise<BlockDisk> {
  const { path, overlay } = options;
  // What lies under an overlay is never written to.
  const readOnly = options.readOnly || overlay !== undefined;
  // Files don't wait for sockets and TLS to load.
  const { openNbdDisk } = await import("./nbd/disk.ts");
  const disk = await openNbdDisk(path, { readOnly, log, stopping });
  try {
    const identity = exportIdentity(path);
    const start = await readStart(disk);
    checkRaw({ start, byteLength: disk.byteLength, identity }, { ...options, readOnly }, log);
    return { ...disk, serial: serialFrom(identity.parts), measure: recording(disk, identity, readOnly) };
  } catch (error) {
    await disk.close?.();
    throw error;
  }
}

function exportHandover(disk: BlockDisk, { path, incoming }: StorageChoice): ObjectHandover {
  return new ObjectHandover(disk, !incoming, () => {
    recordServedRaw({ byteLength: disk.byteLength, identity: exportIdentity(path) });
  });
}

/** What is served raw is known by its size, too. */
function recording(
  disk: BlockDisk,
  identity: Identity,
  readOnly: boolean,
): NonNullable<BlockDisk["measure"]> {
  let known = disk.byteLength;
  return async (mayShrink) => {
    const byteLength = await disk.measure!(mayShrink);
    if (readOnly || byteLength === known || (byteLength < known && !mayShrink)) return byteLength;
    known = byteLength;
    recordServedRaw({ byteLength, identity });
    return byteLength;
  };
}

/** An export is where it is and what it is called, however it is reached. */
function exportIdentity(uri: string): Identity {
  const { address, exportName } = parseNbdUri(uri);
  const place =
    "path" in address ? ["unix", resolve(address.path)] : ["tcp", address.host, String(address.port)];
  return { parts: ["nbd", ...place, exportName], bornNs: 0n };
}

/** What can't be read is the guest's to find out. */
async function readStart(disk: BlockDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.max(SIGNATURE_BYTES, disk.blockSize ?? 0));
  await disk.read(0n, [bytes]).catch(() => bytes.fill(0));
  return bytes;
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
