// A log line as whoever reads it wants it: a person at a terminal, a file that is read another day, the journal, or a program.
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import { printable } from "./paths.ts";

export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export type LogReader = "terminal" | "file" | "journal";

/** Of sd-daemon(3): the journal takes them off a line's beginning. */
const PRIORITIES: Readonly<Record<string, string>> = {
  error: "<3>",
  warn: "<4>",
  info: "<6>",
  debug: "<7>",
};

/** Whoever starts a service says which stream is the journal's, since a child's may lead elsewhere (JOURNAL_STREAM, systemd.exec(5)). */
export function readerOf(fd: number, { JOURNAL_STREAM }: NodeJS.ProcessEnv = process.env): LogReader {
  if (isatty(fd)) return "terminal";
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return JOURNAL_STREAM === `${dev}:${ino}` ? "journal" : "file";
  } catch {
    return "file";
  }
}

/** Of lines as pino writes them. */
export function formatterFor(format: LogFormat, reader: LogReader): (line: string) => string {
  const formatted = format === "json" ? withoutControls : (line: string) => formatText(line, reader);
  return reader === "journal" ? (line) => withPriority(formatted(line), JSON.parse(line).level) : formatted;
}

/** "12:00:01 info  front-end connected  queues=4", in a file with the date. The journal has the time by itself. */
export function formatText(line: string, reader: LogReader = "terminal"): string {
  const { level, time, msg, ...fields } = JSON.parse(line);
  const details = Object.entries(fields).map(([name, value]) => `  ${name}=${formatValue(value)}`);
  return `${momentOf(new Date(time), reader)}${level.padEnd(5)} ${printable(msg ?? "")}${details.join("")}\n`;
}

function momentOf(time: Date, reader: LogReader): string {
  if (reader === "journal") return "";
  const clock = time.toTimeString().slice(0, 8);
  if (reader === "terminal") return `${clock} `;
  const [month, day] = [time.getMonth() + 1, time.getDate()].map((part) => String(part).padStart(2, "0"));
  return `${time.getFullYear()}-${month}-${day} ${clock} `;
}

/** Before each of its lines: a stack has several. */
function withPriority(text: string, level: string): string {
  return text.replace(/^(?=.)/gm, PRIORITIES[level] ?? "");
}

/** JSON leaves DEL and the controls of ISO 6429 as they are, which some terminals obey. */
function withoutControls(line: string): string {
  return line.replace(/[\x7f-\x9f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
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
