// Log lines on stderr: for people, or as JSON for machines. No line is written for a request of the guest that ends well.
import { constants, openSync } from "node:fs";
import { isatty } from "node:tty";
import { type NameOfChoice, nameInLibrary } from "./choices.ts";
import { LimitedLog } from "./log-limiter.ts";
import { LogOutput } from "./log-output.ts";
import { printable } from "./paths.ts";

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
export const LOG_FORMATS = ["text", "json"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = (typeof LOG_FORMATS)[number];

/**
 * pino takes as long to load as the rest of the start, so only those load it who are going to log. `nameOf`: how whoever reads the
 * log knows what can be chosen.
 */
export async function createLog(
  level: LogLevel,
  format: LogFormat,
  nameOf: NameOfChoice = nameInLibrary,
): Promise<LimitedLog> {
  const { default: pino } = await import("pino");
  const formatted = format === "json" ? withoutControls : formatText;
  const output = new LogOutput(fdOfLog(), (count) => formatted(lostLine(count)));
  const write = (line: string) => output.write(formatted(line));
  const options = { level, base: null, formatters: { level: (label: string) => ({ level: label }) } };
  return new LimitedLog(pino(options, { write }), nameOf);
}

/** As pino has lines. Whatever the level: those that were lost were wanted. */
function lostLine(lines: number): string {
  const msg = "log lines are lost: whoever reads the log was too slow";
  return `${JSON.stringify({ level: "warn", time: Date.now(), lines, msg })}\n`;
}

/** JSON leaves DEL and the controls of ISO 6429 as they are, which some terminals obey. */
function withoutControls(line: string): string {
  return line.replace(/[\x7f-\x9f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
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

/** "12:00:01 info  front-end connected  queues=4" */
export function formatText(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line);
  const clock = new Date(time).toTimeString().slice(0, 8);
  const details = Object.entries(fields).map(([name, value]) => `  ${name}=${formatValue(value)}`);
  return `${clock} ${level.padEnd(5)} ${printable(msg ?? "")}${details.join("")}\n`;
}

/** A name that has blanks or controls in it can't pass for another field, or for a command to the terminal. */
function quoted(value: string): string {
  if (/^[^\s"=]+$/.test(value)) return printable(value);
  return `"${printable(value).replace(/"/g, '\\"')}"`;
}

function formatValue(value: unknown): string {
  if (typeof value === "string") return quoted(value);
  const { stack } = (value ?? {}) as { stack?: string };
  return stack ?? JSON.stringify(value);
}
