// Keeps two writers off one image, with the locks that QEMU takes: neither starts while the other has the file.
import { setTimeout as sleep } from "node:timers/promises";
import { StartError } from "../../errors.ts";
import { EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP } from "../../linux/errno.ts";
import { isByteLocked, lockByte, unlockBytes } from "../../linux/file-lock.ts";
import { SystemError } from "../../linux/libc.ts";
import { findLockHolder } from "../../linux/lock-holder.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";

/*
 * QEMU (block/file-posix.c, raw_apply_lock_bytes) gives every permission two bytes of the file, whatever the file's
 * size. A process shares byte 100 + n to say that it uses permission n, and byte 200 + n to say that it doesn't want
 * others to use it. Nobody ever locks for himself alone: each looks at the opposite bytes after taking his own.
 */
const USED = 100;
const UNSHARED = 200;
const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;
const LOCK_BYTES = 200;

/** Neither kind of user wants the image to change under it. */
const UNSHARED_BY_ALL = [WRITE, RESIZE];

/** Two that start at the same time collide, and one that was told to end needs a moment. */
const PATIENCE_MS = 700;
const RETRY_MS = 25;
const LOOK_FOR_HOLDER_MS = 500;

export interface LockPatience {
  /** How long the I/O of a killed predecessor may take to end. */
  timeoutMs: number;
  /** Ends the wait with an AbortError. */
  stopping: AbortSignal;
}

/**
 * Locks the file for a reader or the only writer, or refuses with a StartError. All descriptors must be of the same
 * file: each is an open file of its own, whose requests may outlive this process, so each holds the lock.
 *
 * The lock is also the barrier behind a crash. What a killed process has handed to the kernel goes on, and keeps its
 * open files, and so the lock, until it is done: no write of then can land on one of ours. Such a lock has no process
 * that could be asked to end, so it is waited for; one that a living process holds is not.
 */
export async function lockImage(
  fds: readonly number[],
  path: string,
  isReader: boolean,
  { timeoutMs, stopping }: LockPatience,
  log: Log,
): Promise<void> {
  const used = isReader ? [CONSISTENT_READ] : [CONSISTENT_READ, WRITE];
  const startMs = performance.now();
  let nextLookMs = PATIENCE_MS;
  while (!tryLock(fds, used)) {
    const waitedMs = performance.now() - startMs;
    if (waitedMs > nextLookMs) {
      refuseHeld(fds[0]!, path);
      if (waitedMs > timeoutMs) throw stillLocked(path, timeoutMs);
      if (nextLookMs === PATIENCE_MS) log.info({ file: path, forSeconds: timeoutMs / 1000 }, WAITING);
      nextLookMs = waitedMs + LOOK_FOR_HOLDER_MS;
    }
    // Two that try at the same time must not go on colliding.
    await sleep(RETRY_MS * (1 + Math.random()), undefined, { signal: stopping });
  }
}

export interface LockChoice {
  path: string;
  readOnly: boolean;
  lockTimeoutMs: number;
}

/** Locks the file as lockImage() does. False where its file system has no locks, which the log says. */
export async function lockUnlessUnsupported(
  fds: readonly number[],
  { path, readOnly, lockTimeoutMs }: LockChoice,
  stopping: AbortSignal,
  log: Log,
): Promise<boolean> {
  try {
    await lockImage(fds, path, readOnly, { timeoutMs: lockTimeoutMs, stopping }, log);
    return true;
  } catch (error) {
    if (!hasNoLocks(error)) throw error;
    log.warn({ file: path }, NO_LOCKS);
    return false;
  }
}

/** ENOLCK: NFS without its lock service. The others: file systems or kernels that don't know such locks. */
export function hasNoLocks(error: unknown): boolean {
  return error instanceof SystemError && [ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL].includes(error.errno);
}

export const NO_LOCKS = "the file system has no locks: nothing keeps a second writer away";

const WAITING = "waiting for the I/O of a killed process, which still locks the image";

/** Locks the file for the only writer; false if others have it. */
export function tryLockForWriter(fds: readonly number[]): boolean {
  return tryLock(fds, [CONSISTENT_READ, WRITE]);
}

/** The same for another descriptor of a file that is locked for us already; false is no answer that should come. */
export function lockAlongside(fd: number): boolean {
  return claim(fd, [CONSISTENT_READ, WRITE]);
}

export function unlock(fds: readonly number[]): void {
  for (const fd of fds) unlockBytes(fd, USED, LOCK_BYTES);
}

function tryLock([first, ...others]: readonly number[], used: readonly number[]): boolean {
  const isLocked = claim(first!, used) && !isContested(first!, used);
  // The others would see the first one's locks as a stranger's, so they only claim.
  if (isLocked && others.every((fd) => claim(fd, used))) return true;
  unlock([first!, ...others]);
  return false;
}

function claim(fd: number, used: readonly number[]): boolean {
  const bytes = [...used.map((n) => USED + n), ...UNSHARED_BY_ALL.map((n) => UNSHARED + n)];
  return bytes.every((byte) => lockByte(fd, byte));
}

function isContested(fd: number, used: readonly number[]): boolean {
  const bytes = [...UNSHARED_BY_ALL.map((n) => USED + n), ...used.map((n) => UNSHARED + n)];
  return bytes.some((byte) => isByteLocked(fd, byte));
}

/** Whether others keep the file from a reader or from the only writer. Looks, and takes no lock. */
export function isImageHeld(fd: number, isReader: boolean): boolean {
  return isContested(fd, isReader ? [CONSISTENT_READ] : [CONSISTENT_READ, WRITE]);
}

function refuseHeld(fd: number, path: string): void {
  const holder = findLockHolder(fd);
  if (holder === undefined) return;
  if (holder.pid === process.pid)
    throw new StartError(`${path} is in use by this process itself; it can be opened once`);
  const who = `${holder.name} (process ${holder.pid})`;
  throw new StartError(`${path} is in use by ${who}; end that first`);
}

function stillLocked(path: string, timeoutMs: number): StartError {
  return new StartError(
    `${path} is locked by no process that can be seen from here: I/O of a killed one may take longer than the ` +
      `${timeoutMs / 1000} s of ${choice("lockTimeoutMs")}`,
  );
}
