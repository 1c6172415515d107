// A disk in a file or a block device, by Node's thread pool: to put others over, or to start from with one of your own.
import { type BigIntStats, fstatSync, fsync } from "node:fs";
import { promisify } from "node:util";
import type { BlockDisk } from "../../engines/block-disk.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { LimitedLog } from "../../process/log-limiter.ts";
import { type CommitMark, clearCommitMark, readCommitMark, setCommitMark } from "./commit-mark.ts";
import { DiskFile } from "./disk-file.ts";
import { FileStorage } from "./file-storage.ts";

/** Which file, and how to open it. */
export interface FileDiskOptions {
  /** A file or a block device. */
  path: string;
  /** Left out: false. */
  readOnly?: boolean;
  /** "raw": whatever the image seems to hold. Left out: one of another format than raw is refused. */
  format?: "raw";
  /** Write to a device although the host uses it. Left out: false. */
  force?: boolean;
  /** "auto": keep other writers away with the locks that QEMU takes. Left out: "auto". */
  lock?: "auto" | "off";
  /** How long to wait for the I/O of a killed process that still locks the file, in milliseconds. Left out: 30,000. */
  lockTimeoutMs?: number;
  /**
   * It is beneath an overlay, which knows what a commit into it means. Left out: false.
   * @internal
   */
  isBase?: boolean;
  /** Ends that wait. */
  signal?: AbortSignal;
  /** Where it says that it waits, or that the file system has no locks. Left out: nowhere. */
  log?: Log;
}

const DEFAULTS = {
  readOnly: false,
  direct: false,
  discard: "unmap",
  rangeSegments: 1,
  lock: "auto",
  lockTimeoutMs: 30_000,
} as const;

const fileSync = promisify(fsync);

/** A file or a block device as a disk. vringd serves a path faster; this is for what goes over it. */
export class FileDisk implements BlockDisk {
  readonly byteLength: bigint;
  readonly blockSize: number;
  /** As it was opened. */
  readonly readOnly: boolean;
  readonly serial: string;
  private readonly file: DiskFile;

  private constructor(private readonly storage: FileStorage) {
    const { byteLength, blockSize, readOnly, serial } = storage.facts;
    this.byteLength = byteLength;
    this.blockSize = blockSize;
    this.readOnly = readOnly;
    this.serial = serial;
    this.file = new DiskFile(storage.file.fd);
  }

  /** Opens and locks it. Throws {@link StartError}. */
  static async open(options: FileDiskOptions): Promise<FileDisk> {
    const { signal = new AbortController().signal, log = SILENT, ...how } = options;
    return new FileDisk(await FileStorage.open({ ...DEFAULTS, ...how }, signal, LimitedLog.over(log)));
  }

  /**
   * Takes over what is open already.
   * @internal
   */
  static over(storage: FileStorage): FileDisk {
    return new FileDisk(storage);
  }

  /** When the file last changed, in ns since 1970; 0 for a block device, which doesn't tell. */
  get changedNs(): bigint {
    const stats = fstatSync(this.file.fd, { bigint: true });
    return stats.isFile() ? stats.mtimeNs : 0n;
  }

  /**
   * What an unfinished commit into it has left.
   * @internal
   */
  get commitMark(): CommitMark | undefined {
    return readCommitMark(this.storage.remembered);
  }

  /**
   * From now on it alone is not to be served; after `undefined`, it is. That is stable then.
   * @internal
   */
  markCommit(mark: CommitMark | undefined): void {
    const { remembered, facts } = this.storage;
    if (mark === undefined) clearCommitMark(remembered);
    else setCommitMark(remembered, mark, facts.name);
  }

  /**
   * Whether these are the stats of this very file, by whatever path.
   * @internal
   */
  isFile(stats: BigIntStats): boolean {
    const own = fstatSync(this.file.fd, { bigint: true });
    if (own.isBlockDevice()) return stats.isBlockDevice() && own.rdev === stats.rdev;
    return own.dev === stats.dev && own.ino === stats.ino;
  }

  read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    return this.file.read(Number(offset), buffers);
  }

  write(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    return this.file.write(Number(offset), buffers);
  }

  flush(): Promise<void> {
    return this.file.sync();
  }

  /**
   * As flush(), with its time of last change.
   * @internal
   */
  async flushAll(): Promise<void> {
    await this.file.sync();
    await fileSync(this.file.fd);
  }

  discard(offset: bigint, byteLength: bigint): Promise<void> {
    return this.file.punch(Number(offset), Number(byteLength));
  }

  writeZeroes(offset: bigint, byteLength: bigint): Promise<void> {
    return this.file.punch(Number(offset), Number(byteLength));
  }

  close(): Promise<void> {
    return this.storage.close();
  }
}
