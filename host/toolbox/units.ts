// Sizes and times, for people: as they read them and as they write them.
import { UsageError } from "../command-line.ts";

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

/** "950 ns", "12.4 us", "1.25 ms". */
export function formatNs(ns: number): string {
  const [name, size] = TIME_UNITS.find(([, least]) => ns >= least) ?? ["ns", 1];
  return `${trimmed(ns / size)} ${name}`;
}

/** "940", "12.4k", "1.25M". */
export function formatCount(count: number): string {
  if (count >= 1e6) return `${trimmed(count / 1e6)}M`;
  if (count >= 1e4) return `${trimmed(count / 1e3)}k`;
  return String(Math.round(count));
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
