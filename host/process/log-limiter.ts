// What a guest or a front-end can cause, it can cause without end: this bounds the lines of each kind. A kind is a level and a
// sentence, so sentences must be constants, and what changes belongs into the fields.
import { type NameOfChoice, nameInLibrary, sayChoices } from "./choices.ts";
import type { Log, LogLevel, LogLine } from "./log.ts";

const VERBOSITY: Readonly<Record<string, number>> = { error: 0, warn: 1, info: 2, debug: 3 } satisfies Record<
  LogLevel,
  number
>;

/** Lines of a kind that come at once, and how long one more takes. */
interface Rate {
  burst: number;
  everyMs: number;
}

const RATE: Rate = { burst: 10, everyMs: 10_000 };
/** Who asks for debug lines wants each request of a front-end, as far as anybody can read along. */
const DEBUG_RATE: Rate = { burst: 1000, everyMs: 10 };
/** Sentences that are no constants, by mistake, must not take memory for ever. */
const KINDS_MAX = 256;

type Fields = Record<string, unknown>;

/** What was to be logged, whatever has become of it. */
export interface LogEntry {
  level: LogLevel;
  sentence: string;
  fields: Fields;
}

/** Lines of one kind, and the latest of those that were left out. */
interface Kind {
  rate: Rate;
  credit: number;
  atMs: number;
  leftOut: number;
  latest: LogEntry | undefined;
  timer: NodeJS.Timeout | undefined;
}

/** A log of somebody's, which may have a level, and whose methods may need it. */
type Target = Log & { level?: string };

/**
 * Passes the first lines of each kind on, and then one in ten seconds, which says in `leftOut` how many there were since the
 * one before. The last one is told in any case, a little later. What can be chosen is called as whoever reads the log knows it.
 */
export class LimitedLog implements Log {
  readonly error = this.lineOf("error");
  readonly warn = this.lineOf("warn");
  readonly info = this.lineOf("info");
  readonly debug = this.lineOf("debug");
  /** Told of all but debug lines, also of those that are left out. */
  observe: ((entry: LogEntry) => void) | undefined;
  private readonly kinds = new Map<string, Kind>();

  constructor(
    private readonly target: Target,
    private readonly nameOf: NameOfChoice = nameInLibrary,
    private readonly now = () => performance.now(),
  ) {}

  /** The same log, if it is limited already. */
  static over(log: Log): LimitedLog {
    return log instanceof LimitedLog ? log : new LimitedLog(log);
  }

  /** Empty: the log has none, and takes all. */
  get level(): string {
    return this.target.level ?? "";
  }

  set level(level: string) {
    this.target.level = level;
  }

  /** The same log for lines that have these fields too. They are limited for themselves, and observed for themselves. */
  with(fields: Fields): LimitedLog {
    return new LimitedLog(withFields(this.target, fields), this.nameOf, this.now);
  }

  /** Tells now what was left out. */
  flush(): void {
    for (const kind of this.kinds.values()) this.tellLatest(kind);
  }

  private lineOf(level: LogLevel): LogLine {
    return (first: object | string, second?: string) => {
      const isWanted = this.isWanted(level);
      if (!isWanted && (level === "debug" || this.observe === undefined)) return;
      const [sentence, fields] = typeof first === "string" ? [first, {}] : [second ?? "", first as Fields];
      const entry = { level, sentence: this.said(sentence), fields: this.saidIn(fields) };
      if (level !== "debug") this.observe?.(entry);
      if (isWanted) this.limit(entry);
    };
  }

  private said(text: string): string {
    return sayChoices(text, this.nameOf);
  }

  private saidIn(fields: Fields): Fields {
    const isMarked = (value: unknown) => typeof value === "string" && this.said(value) !== value;
    if (!Object.values(fields).some(isMarked)) return fields;
    const entries = Object.entries(fields);
    return Object.fromEntries(
      entries.map(([name, value]) => [name, isMarked(value) ? this.said(value as string) : value]),
    );
  }

  private limit(entry: LogEntry): void {
    const kind = this.kindOf(entry);
    this.refill(kind);
    if (kind.credit >= 1) {
      this.tell(kind, entry, kind.leftOut);
      return;
    }
    kind.leftOut++;
    kind.latest = entry;
    kind.timer ??= setTimeout(() => this.tellLatest(kind), (1 - kind.credit) * kind.rate.everyMs).unref();
  }

  private refill(kind: Kind): void {
    const nowMs = this.now();
    const { burst, everyMs } = kind.rate;
    kind.credit = Math.min(burst, kind.credit + (nowMs - kind.atMs) / everyMs);
    kind.atMs = nowMs;
  }

  private tellLatest(kind: Kind): void {
    if (kind.latest === undefined) return;
    this.refill(kind);
    this.tell(kind, kind.latest, kind.leftOut - 1);
  }

  private tell(kind: Kind, { level, sentence, fields }: LogEntry, leftOut: number): void {
    clearTimeout(kind.timer);
    kind.timer = undefined;
    kind.latest = undefined;
    kind.leftOut = 0;
    kind.credit = Math.max(0, kind.credit - 1);
    const all = leftOut > 0 ? { ...fields, leftOut } : fields;
    if (Object.keys(all).length > 0) this.target[level](all, sentence);
    else this.target[level](sentence);
  }

  private kindOf({ level, sentence }: LogEntry): Kind {
    const isDebug = level === "debug" || this.level === "debug";
    const rate = isDebug ? DEBUG_RATE : RATE;
    const wanted = `${level} ${sentence}`;
    const name = this.kinds.has(wanted) || this.kinds.size < KINDS_MAX ? wanted : level;
    let kind = this.kinds.get(name);
    if (kind === undefined) {
      kind = { rate, credit: rate.burst, atMs: this.now(), leftOut: 0, latest: undefined, timer: undefined };
      this.kinds.set(name, kind);
    }
    // The level may have changed.
    if (kind.rate !== rate) Object.assign(kind, { rate, credit: rate.burst });
    return kind;
  }

  private isWanted(level: LogLevel): boolean {
    return VERBOSITY[level]! <= (VERBOSITY[this.level] ?? Number.POSITIVE_INFINITY);
  }
}

function withFields(target: Target, more: Fields): Target {
  const line =
    (level: LogLevel): LogLine =>
    (first: object | string, second?: string) => {
      if (typeof first === "string") target[level](more, first);
      else target[level]({ ...more, ...first }, second ?? "");
    };
  return {
    error: line("error"),
    warn: line("warn"),
    info: line("info"),
    debug: line("debug"),
    get level(): string {
      return target.level ?? "";
    },
    set level(level: string) {
      target.level = level;
    },
  };
}
