// What an overlay's file says of itself, for those who only look: it may be in use.
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { reasonOf, StartError } from "../../errors.ts";
import { findLockHolder, type Process } from "../../linux/lock-holder.ts";
import { filePath } from "../../process/paths.ts";
import type { ByteStore } from "../file/disk-file.ts";
import { DiskFile } from "../file/disk-file.ts";
import { FileDisk } from "../file/file-disk.ts";
import { isImageHeld } from "../file/lock.ts";
import { baseFactsOf, type Standing, standingOf } from "./base.ts";
import { BlockMap } from "./block-map.ts";
import {
  BLOCK_BYTES,
  currentBootId,
  encodeSession,
  layoutOf,
  SESSION_BYTES,
  SESSION_POSITION,
} from "./format.ts";
import { type OverlayHeader, readHeader } from "./header.ts";

export interface Inspected {
  /** Of the disk. */
  sizeBytes: number;
  blockBytes: number;
  /** Blocks that the overlay has. */
  blocks: number;
  /** Of these, blocks that a machine which dies now may lose. */
  unflushedBlocks: number;
  /** Space that its file takes. */
  allocatedBytes: number;
  base: InspectedBase;
  isCommitting: boolean;
  /** "unknown": a process that can't be seen from here. */
  user: Process | "unknown" | undefined;
}

export interface InspectedBase {
  /** Undefined: neither the overlay nor we know. */
  path: string | undefined;
  /** Undefined: it can't be opened. */
  standing: Standing | undefined;
  /** When it was changed, where that is what is wrong. In ms since 1970. */
  changedMs?: number;
  /** Why it can't be opened. */
  reason?: string;
}

/** Throws StartError for what is no overlay. */
export async function inspect(path: string, basePath?: string): Promise<Inspected> {
  const fd = openToLook(path);
  try {
    const storage = new DiskFile(fd);
    const header = await readHeader(storage, path);
    return {
      sizeBytes: Number(header.byteLength),
      blockBytes: BLOCK_BYTES,
      ...(await countBlocks(storage, header)),
      allocatedBytes: fstatSync(fd).blocks * 512,
      base: await inspectBase(header, basePath ?? header.baseName),
      isCommitting: header.commit !== undefined,
      user: userOf(fd),
    };
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`can't read the overlay ${path}: ${reasonOf(error)}`);
  } finally {
    closeSync(fd);
  }
}

/** No lock is taken. Throws StartError. */
export function openToLook(path: string): number {
  try {
    // To open a pipe would wait for its other end.
    return openSync(filePath(path), constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new StartError(`can't open the overlay ${path}: ${reasonOf(error)}`);
  }
}

async function countBlocks(
  storage: ByteStore,
  { byteLength }: OverlayHeader,
): Promise<{ blocks: number; unflushedBlocks: number }> {
  const layout = layoutOf(byteLength);
  const session = Buffer.alloc(SESSION_BYTES);
  await storage.read(SESSION_POSITION, [session]);
  const isSameKernel = session.equals(encodeSession(currentBootId()));
  const all = (await BlockMap.load(storage, layout, isSameKernel)).count();
  const durable = (await BlockMap.load(storage, layout, false)).count();
  return { blocks: all, unflushedBlocks: all - durable };
}

async function inspectBase(header: OverlayHeader, path: string | undefined): Promise<InspectedBase> {
  if (path === undefined) return { path, standing: undefined, reason: "the overlay doesn't say" };
  let base: FileDisk;
  try {
    base = await FileDisk.open({ path, readOnly: true, isBase: true, lock: "off" });
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    return { path, standing: undefined, reason: error.message };
  }
  try {
    const facts = baseFactsOf(base);
    const standing = standingOf(header, facts);
    if (standing !== "changed" || facts.changedNs === 0n) return { path, standing };
    return { path, standing, changedMs: Number(facts.changedNs / 1_000_000n) };
  } finally {
    await base.close();
  }
}

function userOf(fd: number): Process | "unknown" | undefined {
  try {
    return isImageHeld(fd, false) ? (findLockHolder(fd) ?? "unknown") : undefined;
  } catch {
    // Its file system has no locks.
    return undefined;
  }
}
