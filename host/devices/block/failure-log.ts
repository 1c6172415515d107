// Log lines for what the disk failed: the first failure of a kind at once, then once a minute how many more there were.
import { constants } from "node:os";
import type { DiskFailure, DiskOperation } from "../../engines/disk-failure.ts";
import { reasonOf } from "../../errors.ts";
import type { Log } from "../../process/log.ts";

const WINDOW_MS = 60_000;

/** Sentences are constants: the log's limiter tells kinds of lines apart by them. */
const SENTENCES: Record<DiskOperation, [one: string, more: string]> = {
  read: ["a read failed", "more reads failed"],
  write: ["a write failed", "more writes failed"],
  flush: ["a flush failed", "more flushes failed"],
  discard: ["a discard failed", "more discards failed"],
  writeZeroes: ["a write-zeroes failed", "more write-zeroes failed"],
};

const NOTHING_MOVED: Partial<Record<DiskOperation, string>> = {
  read: "the file ends before that: it has become shorter than the disk",
};

const { EIO } = constants.errno;
const nameOfErrno = new Map(Object.entries(constants.errno).map(([name, value]) => [value as number, name]));
// These have two names each; the kernel's manual pages use these.
for (const name of ["EAGAIN", "EOPNOTSUPP"] as const) nameOfErrno.set(constants.errno[name], name);

/** Failures of one operation by one errno, beyond the one that was told at once. */
interface Kind {
  operation: DiskOperation;
  errno: string;
  reason: string;
  sinceMs: number;
  count: number;
  firstSector: number | undefined;
}

export class FailureLog {
  private readonly kinds = new Map<string, Kind>();
  private timer: NodeJS.Timeout | undefined;

  /** `where`: what the disk is, for each line. */
  constructor(
    private readonly log: Log,
    private readonly where: { file: string; overlay?: string | undefined },
    private readonly now = () => performance.now(),
  ) {}

  add(failure: DiskFailure): void {
    const { operation, sector, count } = failure;
    const errno = nameOfErrno.get(-failure.result) ?? nameOfErrno.get(EIO)!;
    const known = this.kinds.get(`${operation} ${errno}`);
    if (known !== undefined) {
      if (known.count === 0) known.firstSector = sector;
      known.count += count;
      return;
    }
    const reason = reasonFor(failure);
    const firstSector = sector;
    const kind = { operation, errno, reason, sinceMs: this.now(), count: count - 1, firstSector };
    this.kinds.set(`${operation} ${errno}`, kind);
    this.log.warn({ errno, ...ifKnown({ sector }), reason, ...this.where }, SENTENCES[operation][0]);
    this.timer ??= this.startWindow();
  }

  /** Tells of all that was counted. */
  close(): void {
    this.tellCounts();
    clearTimeout(this.timer);
  }

  /** A kind that was quiet since it was told begins anew. */
  private tellCounts(): void {
    for (const [name, kind] of this.kinds) {
      if (kind.count === 0) this.kinds.delete(name);
      else this.tellCount(kind);
    }
    this.timer = this.kinds.size > 0 ? this.startWindow() : undefined;
  }

  private startWindow(): NodeJS.Timeout {
    return setTimeout(() => this.tellCounts(), WINDOW_MS).unref();
  }

  private tellCount(kind: Kind): void {
    const { operation, errno, reason, count, firstSector, sinceMs } = kind;
    const seconds = Math.round((this.now() - sinceMs) / 1000);
    const values = { count, seconds, errno, ...ifKnown({ firstSector }), reason, ...this.where };
    this.log.warn(values, SENTENCES[operation][1]);
    Object.assign(kind, { count: 0, sinceMs: this.now() });
  }
}

function reasonFor({ operation, result, error }: DiskFailure): string {
  if (error !== undefined) return error instanceof Error ? error.message : String(error);
  if (result !== 0) return reasonOf({ errno: result });
  return NOTHING_MOVED[operation] ?? "nothing was written";
}

function ifKnown<T extends object>(fields: T): Partial<T> {
  const known = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known) as Partial<T>;
}
