// `npm test`: the core's unit tests beside everything else, with the runner's totals at the end.
// `node build/tests/run.mjs PART...` runs the files whose names contain one of the parts.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { endLeftBehind, markRun } from "./support/left-behind.ts";
import { areSkipsForbidden } from "./support/skip.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");

/** Each file is bounded, so that a hang is a failure. The slowest is guests' lives on three QEMUs. */
const FILE_TIMEOUT_MS = 20 * 60_000;

/** Files side by side. Guests on emulated processors leave nothing of two; without them a third of the time would be waits. */
const WITH_GUESTS = 2;
const WITHOUT_GUESTS = 3;

/** They take longest. What starts last should be short, so that no processor waits at the end. */
const FIRST = [
  "guest-life",
  "guest-rng",
  "guest-qemu",
  "guest-objects",
  "guest-vsock",
  "guest-console-qemu",
  "guest-console-uml",
  "guest-i2c-host",
  "guest-i2c",
  "guest-gpio-chip",
  "guest-gpio",
  "guest-input",
  "guest-gpu",
  "guest-evdev",
  "guest-uml",
  "nbd-guest",
];

/** What no version of Node changes, or what other tests of the same part show of it already. */
const SAME_ON_EVERY_NODE = [
  // Guests see the daemon only; other runtimes, browsers and shells have versions of their own.
  ...["guest", "runtimes", "deno", "demo", "completion"],
  // Explorations of our own logic.
  ...["crash", "model", "mutants", "hostile-chains", "device-fuzz"],
  // What becomes of a cluster; "rbd" itself calls its library.
  "rbd-",
  // What the checkout says of itself, what only its developers run, and what is other programs' to read.
  ...["security", "messages", "planted", "skips", "abi", "split-read", "manual", "systemd", "schemas"],
  ...["site", "readme", "project", "bench", "alert-rules", "backends-debian"],
];

const { values, positionals: parts } = parseArgs({
  allowPositionals: true,
  options: {
    /** Leaves out what doesn't depend on Node's version. */
    "node-only": { type: "boolean", default: false },
  },
});

/** USER_HZ, which is the same for all of Linux' processors of today. */
const TICKS_A_SECOND = 100;
let cpuSeconds = 0;

markRun();
const isWhole = parts.length === 0 && !values["node-only"];
const core = isWhole ? runCore() : Promise.resolve({ status: 0, text: "" });

const stream = run({
  files: chooseFiles(),
  concurrency: values["node-only"] ? WITHOUT_GUESTS : WITH_GUESTS,
  timeout: FILE_TIMEOUT_MS,
});
stream.on("test:fail", () => {
  process.exitCode = 1;
});
stream.on("test:pass", ({ name, skip }) => {
  if (skip === undefined || !areSkipsForbidden()) return;
  process.exitCode = 1;
  console.error(`skipped, which is forbidden here: ${name}: ${skip}`);
});
stream.on("test:complete", ({ name, file, details }) => {
  if (name === file) tellTime(basename(file, ".test.mjs"), details.duration_ms);
});
const report = stream.compose(new spec());
report.pipe(process.stdout);

const [{ status, text }] = await Promise.all([core, finished(report)]);
if (isWhole) console.error(`the core's unit tests: ${text.trim()}`);
if (status !== 0) process.exitCode = 1;
for (const left of await endLeftBehind()) {
  process.exitCode = 1;
  console.error(`left behind by a test: ${left}`);
}
// A process without the mark that holds a test's standard error would keep this one waiting for ever.
process.exit();

function chooseFiles(): string[] {
  const all = readdirSync(here).filter((name) => name.endsWith(".test.mjs"));
  const unknown = parts.find((part) => !all.some((name) => name.includes(part)));
  if (unknown !== undefined) throw new Error(`no test file's name contains "${unknown}"`);
  const rank = (name: string) => FIRST.indexOf(basename(name, ".test.mjs")) + 1 || FIRST.length + 1;
  return all
    .filter((name) => parts.length === 0 || parts.some((part) => name.includes(part)))
    .filter((name) => !values["node-only"] || !SAME_ON_EVERY_NODE.some((part) => name.includes(part)))
    .sort((a, b) => rank(a) - rank(b))
    .map((name) => join(here, name));
}

async function runCore(): Promise<{ status: number; text: string }> {
  const start = performance.now();
  const child = spawn(process.execPath, [join(root, "tests/core/run.mjs")], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const [status] = await once(child, "close");
  tellTime("core", performance.now() - start);
  return { status: status ?? 1, text };
}

/** As files end, since the report keeps their order and so is silent for minutes. With the time that processors had for them. */
function tellTime(name: string, ms: number): void {
  const before = cpuSeconds;
  cpuSeconds = cpuSecondsOfEnded();
  const [wall, cpu] = [ms / 1000, cpuSeconds - before].map((seconds) => seconds.toFixed(1).padStart(7));
  console.error(`${wall} s ${cpu} s of CPU  ${name}`);
}

/** Of this process's children that have ended, and of theirs (proc(5), fields 16 and 17 of /proc/PID/stat). */
function cpuSecondsOfEnded(): number {
  const fields = readFileSync("/proc/self/stat", "latin1").replace(/.*\) /s, "").split(" ");
  return (Number(fields[16 - 3]) + Number(fields[17 - 3])) / TICKS_A_SECOND;
}
