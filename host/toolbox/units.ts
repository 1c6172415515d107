// Sizes and times, for people: as they read them and as they write them.
import { UsageError } from "../command-line/program.ts";

const STEP = 1024;
const SIZE_UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB"];

/** "512 bytes", "4 KiB", "1.5 GiB". */
export function formatBytes(byteLength: number): string {
  let value = byteLength;
  let unit = 0;
  while (value >= STEP && unit < SIZE_UNITS.length - 1) {
    value /= STEP;
    unit++;
  }
  return `${trimmed(value)} ${SIZE_UNITS[unit]}`;
}

/** Up to 3 digits where there is a fraction: 1.25, 12.5, 125. */
function trimmed(value: number): string {
  const fraction = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return String(Number(value.toFixed(fraction)));
}

const TIME_UNITS: readonly [name: string, ns: number][] = [
  ["s", 1e9],
  ["ms", 1e6],
  ["us", 1e3],
];

/** "950 ns", "12.4 us", "1.25 ms"; "-" for none. */
export function formatNs(ns: number | null): string {
  if (ns === null) return "-";
  const [name, size] = TIME_UNITS.find(([, least]) => ns >= least) ?? ["ns", 1];
  return `${trimmed(ns / size)} ${name}`;
}

/** "940", "12.4k", "1.25M". */
export function formatCount(count: number): string {
  if (count >= 1e6) return `${trimmed(count / 1e6)}M`;
  if (count >= 1e4) return `${trimmed(count / 1e3)}k`;
  return String(Math.round(count));
}

/** In MiB, without the unit. */
export function formatMib(bytes: number): string {
  const mib = bytes / 2 ** 20;
  return mib === 0 ? "0" : mib < 99.95 ? mib.toFixed(1) : String(Math.round(mib));
}

/** "5 s", "3 min 20 s", "2 h 5 min", "4 d 3 h". */
export function formatSpan(seconds: number): string {
  const whole = Math.floor(seconds);
  const parts: [number, string][] = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** "4k", "1M", "512": bytes, as fio reads them. Throws UsageError. */
export function byteSize(option: string): (text: string) => number {
  return (text) => {
    const [, digits, letter = ""] = /^(\d{1,15})([kmgt]?)(?:i?b)?$/i.exec(text) ?? [];
    const value = Number(digits) * STEP ** " kmgt".indexOf(letter.toLowerCase() || " ");
    if (Number.isSafeInteger(value)) return value;
    throw new UsageError(`${option} takes bytes, such as 4096, 4k, 1M or 10G, not "${text}"`);
  };
}
