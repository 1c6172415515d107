// A file or a block device that goes from one process to another, and maybe to another host, while its guest moves: whoever takes it
// sees all that the former one has written.
import { closeSync, constants } from "node:fs";
import { hostUseOf } from "../../linux/device-users.ts";
import { dataSync, dropCache } from "../../linux/file-io.ts";
import { S_IFBLK } from "../../linux/file-status.ts";
import { SystemError } from "../../linux/libc.ts";
import { lookForLockHolder } from "../../linux/lock-holder.ts";
import { reopen, replaceDescriptor } from "../../linux/reopen.ts";
import { keepAccessTime, neverWaitsIfInMemory, O_ACCMODE, openFlags } from "../../linux/status-flags.ts";
import type { Log } from "../../process/log.ts";
import { untilNotInterrupted } from "../interrupted.ts";
import type { Handover } from "../storage.ts";
import { hasNoLocks, lockAlongside, NO_LOCKS, tryLockForWriter, unlock } from "./lock.ts";
import type { OpenImage } from "./open-file.ts";

export interface HandoverChoice {
  path: string;
  lock: "auto" | "off";
  lockTimeoutMs: number;
  /** Another has it when this process starts. */
  incoming?: boolean | undefined;
  /** Of a device: whoever else has it may keep it. */
  force?: boolean | undefined;
}

const NOT_ALLOWED = ["EACCES", "EPERM", "EROFS"];

export class FileHandover implements Handover {
  readonly isOurs: boolean;
  readonly patienceMs: number;
  readonly mayChangeSize = true;

  constructor(
    private readonly image: OpenImage,
    private readonly options: HandoverChoice,
    /** Where the file system may have locks. */
    private isLocking: boolean,
    private readonly log: Log,
  ) {
    this.isOurs = !options.incoming;
    this.patienceMs = options.lockTimeoutMs;
  }

  get hasLock(): boolean {
    return this.isLocking;
  }

  /**
   * The lock comes first: before, another host may still write, and what an open file knows of a file on NFS is as old as its open(2).
   * At no time is none of our open files locked.
   */
  async tryTake(): Promise<boolean> {
    const { fds } = this;
    if (!this.lock(fds)) return false;
    try {
      // The device first: another may have claimed it.
      for (const fd of fds) {
        if (await this.renew(fd)) continue;
        await this.giveUp();
        return false;
      }
    } catch (error) {
      await this.giveUp();
      throw error;
    }
    await dropCache(this.image.bufferedFd);
    return true;
  }

  async describeHolder(): Promise<string> {
    const { fd, status } = this.image;
    const use = status.type === S_IFBLK ? hostUseOf(status.represents) : undefined;
    if (use !== undefined) return use;
    const holder = await lookForLockHolder(fd);
    if (holder !== undefined) return `in use by ${holder.name} (process ${holder.pid})`;
    return "locked by another host, or by a process that can't be seen from here";
  }

  async flush(): Promise<void> {
    await untilNotInterrupted(async () => {
      const result = await dataSync(this.image.fd);
      if (result !== 0) throw new SystemError("fdatasync", -result);
    });
  }

  async letGo(): Promise<void> {
    const { fd } = this.image;
    // The kernel gives up a claim with the open file that has it.
    if (this.isClaimed) replaceDescriptor(fd, await this.openLike(fd, 0));
    if (this.isLocking) unlock(this.fds);
  }

  /** What was taken in part is nobody's. */
  private async giveUp(): Promise<void> {
    try {
      await this.letGo();
    } finally {
      if (this.isLocking) unlock(this.fds);
    }
  }

  private get fds(): number[] {
    return [...new Set([this.image.fd, this.image.bufferedFd])];
  }

  /** Of block devices the kernel keeps an account of its own (open(2), O_EXCL). */
  private get isClaimed(): boolean {
    const { status, isAdopted } = this.image;
    return this.options.lock === "auto" && status.type === S_IFBLK && !isAdopted;
  }

  private lock(fds: readonly number[]): boolean {
    if (!this.isLocking) return true;
    try {
      return tryLockForWriter(fds);
    } catch (error) {
      if (!hasNoLocks(error)) throw error;
      this.isLocking = false;
      this.log.warn({ file: this.options.path }, NO_LOCKS);
      return true;
    }
  }

  /** Has the descriptor stand for a new open file, as it stood for the former. False if another has claimed the device. */
  private async renew(fd: number): Promise<boolean> {
    const claims = this.isClaimed && fd === this.image.fd;
    let fresh: number;
    try {
      fresh = await this.openLike(fd, claims ? constants.O_EXCL : 0);
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (claims && code === "EBUSY") {
        if (!this.options.force) return false;
        fresh = await this.openLike(fd, 0);
      } else if (this.image.isAdopted && NOT_ALLOWED.includes(code)) {
        // Who was given a descriptor may lack the right to open its file. On file systems of this host it knows all there is.
        return true;
      } else throw error;
    }
    if (this.isLocking && !lockAlongside(fresh)) {
      closeSync(fresh);
      return false;
    }
    replaceDescriptor(fd, fresh);
    return true;
  }

  private async openLike(fd: number, more: number): Promise<number> {
    const isDirect = this.image.fd !== this.image.bufferedFd && fd === this.image.fd;
    const direct = isDirect ? constants.O_DIRECT : 0;
    const fresh = await reopen(fd, (openFlags(fd) & O_ACCMODE) | direct | more);
    keepAccessTime(fresh);
    neverWaitsIfInMemory(fresh);
    return fresh;
  }
}
