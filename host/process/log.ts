// Log lines on stderr: for people, or as JSON for machines. No line is written for a request of the guest that ends well.
import { constants, openSync } from "node:fs";
import { hostname } from "node:os";
import { isatty } from "node:tty";
import { type NameOfChoice, nameInLibrary } from "./choices.ts";
import { formatterFor, type LogFormat, readerOf } from "./log-format.ts";
import { LimitedLog } from "./log-limiter.ts";
import { LogOutput } from "./log-output.ts";

/** Takes a sentence, and what belongs to it: pino's loggers fit. */
export interface Log {
  /** Something failed. */
  error: LogLine;
  /** Something is not as it should be, and goes on. */
  warn: LogLine;
  /** Starts, ends, front-ends that come and go. */
  info: LogLine;
  /** Each request of the front-end. */
  debug: LogLine;
}

/** Writes a line of one level. */
export interface LogLine {
  /** A sentence, and the values that belong to it by name. */
  (fields: object, sentence: string): void;
  /** A sentence alone. */
  (sentence: string): void;
}

const nothing = () => {};
/** Tells nobody. */
export const SILENT: Log = { error: nothing, warn: nothing, info: nothing, debug: nothing };

export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * pino takes as long to load as the rest of the start, so only those load it who are going to log. `nameOf`: how whoever reads the
 * log knows what can be chosen. `name`: whose lines they are, for those who read many logs as JSON.
 */
export async function createLog(
  level: LogLevel,
  format: LogFormat,
  nameOf: NameOfChoice = nameInLibrary,
  name?: string,
): Promise<LimitedLog> {
  const { default: pino } = await import("pino");
  const formatted = formatterFor(format, readerOf(STDERR));
  const output = new LogOutput(fdOfLog(), (count) => formatted(lostLine(count)));
  const write = (line: string) => output.write(formatted(line));
  const base = format === "json" ? { pid: process.pid, hostname: hostname(), ...(name && { name }) } : null;
  const options = { level, base, formatters: { level: (label: string) => ({ level: label }) } };
  return new LimitedLog(pino(options, { write }), nameOf);
}

/** As pino has lines. Whatever the level: those that were lost were wanted. */
function lostLine(lines: number): string {
  const msg = "log lines are lost: whoever reads the log was too slow";
  return `${JSON.stringify({ level: "warn", time: Date.now(), lines, msg })}\n`;
}

const STDERR = 2;

/** Pipes and sockets are no longer waited for once Node has looked at them; a terminal that was stopped (^S) would be. */
function fdOfLog(): number {
  if (!isatty(STDERR)) return STDERR;
  try {
    return openSync("/proc/self/fd/2", constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return STDERR;
  }
}
