// `npm run bench:runtimes`: the core alone, in each runtime that is installed. Requests a second through step().
import { cpus, loadavg } from "node:os";
import { allRuntimes } from "../support/core-runs.ts";

const WIDTHS = [14, 14, 14];
const row = (cells: readonly string[]) =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(WIDTHS[i]!) : cell.padStart(WIDTHS[i]!))).join("");

console.log(`${cpus()[0]?.model}, load ${loadavg()[0]!.toFixed(1)} before the start`);
console.log("Reads of 4 KiB at depth 64 in a split ring, by an engine that moves nothing; one core.\n");
console.log(row(["", "requests/s", "ns a request"]));
for (const { name, needs, run } of allRuntimes()) {
  const missing = needs.flatMap((program) => program.missing ?? []);
  if (missing.length > 0) {
    console.log(`${name.padEnd(WIDTHS[0]!)}  ${missing.join(", ")}`);
    continue;
  }
  const speed = Number(await run("speed"));
  if (!(speed > 0)) throw new Error(`${name} has not said how fast it was`);
  console.log(row([name, speed.toLocaleString("en"), (1e9 / speed).toFixed(0)]));
}
