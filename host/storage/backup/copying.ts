// How a copy of a disk as of one moment comes about while it is served.
import { closeSync, constants } from "node:fs";
import type { BlockDisk } from "../../engines/block-disk.ts";
import type { ChangeGuard } from "../../engines/change-guard.ts";
import { cloneFile } from "../../linux/clone-file.ts";
import { reopen } from "../../linux/reopen.ts";
import { DiskFile } from "../file/disk-file.ts";
import type { Work } from "../work.ts";
import { PointInTime } from "./point-in-time.ts";

/** Of a disk that can be copied. */
export interface Copying {
  /** Before the moment: what would only make it longer. */
  prepare?(): Promise<void>;
  /** The moment is now: no ring runs, and nothing is in flight. The file is empty. Throws RangeError, which says why not. */
  begin(fd: number, byteLength: number): Copy;
}

/** One that is being made. */
export interface Copy {
  /** Ends it. Rejects if it can't be whole. */
  run(work: Work): Promise<void>;
  /** However that has ended. */
  end(): void;
}

/** Of an object, whose changes its engine tells beforehand. */
export function copyingOfObject(disk: BlockDisk, guard: ChangeGuard): Copying {
  return { begin: (fd, byteLength) => new PointInTime(disk, byteLength, new DiskFile(fd), guard) };
}

/** Of a file that the kernel itself serves: it and its copy share blocks until either changes them. */
export function copyingOfFile(name: string, fd: number): Copying {
  return {
    async prepare() {
      // By an open file of its own: what the kernel says of lost pages is for the guest's flush to hear.
      const own = await reopen(fd, constants.O_RDONLY).catch(() => undefined);
      // Of a descriptor that somebody else has opened, whose file we may not open.
      if (own === undefined) return;
      try {
        await new DiskFile(own).sync();
      } finally {
        closeSync(own);
      }
    },
    begin(target) {
      if (!cloneFile(fd, target)) throw new RangeError(`${name} ${NO_CLONE}`);
      return { run: async () => {}, end() {} };
    },
  };
}

const NO_CLONE =
  "can't be copied while it is served: its file system has no clones (FICLONE; XFS and Btrfs have), or the copy is to lie on another one; a disk in an overlay can be copied anywhere";
