// Numbers as people read them.

/** "850 ns", "2.5 us", "12 ms", "1.2 s": two digits at least. */
export function formatNs(ns: number | null): string {
  if (ns === null) return "-";
  const units = ["ns", "us", "ms", "s"];
  let value = ns;
  while (value >= 999.5 && units.length > 1) {
    value /= 1000;
    units.shift();
  }
  return `${value < 9.95 && units[0] !== "ns" ? value.toFixed(1) : Math.round(value)} ${units[0]}`;
}

/** "0", "850", "12.3k", "1.2M". */
export function formatCount(count: number): string {
  if (count < 9999.5) return String(Math.round(count));
  return count < 999_950 ? `${(count / 1000).toFixed(1)}k` : `${(count / 1e6).toFixed(1)}M`;
}

/** In MiB, without the unit. */
export function formatMib(bytes: number): string {
  const mib = bytes / 2 ** 20;
  return mib === 0 ? "0" : mib < 99.95 ? mib.toFixed(1) : String(Math.round(mib));
}

/** "512 B", "64 MiB", "1.5 GiB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  while (value >= 1024 && units.length > 1) {
    value /= 1024;
    units.shift();
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[0]}`;
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
