// `npm test`: the core's unit tests, then everything else, with the runner's totals at the end.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");

/** Each file is bounded, so that a hang is a failure. The slowest boot guests. */
const FILE_TIMEOUT_MS = 8 * 60_000;

const core = spawnSync(process.execPath, [join(root, "tests/core/run.mjs")], { cwd: root, stdio: "inherit" });
if (core.status !== 0) process.exit(core.status ?? 1);

const wanted = process.argv.slice(2);
const files = readdirSync(here)
  .filter((name) => name.endsWith(".test.mjs"))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .map((name) => join(here, name));

const stream = run({ files, concurrency: 2, timeout: FILE_TIMEOUT_MS });
stream.on("test:fail", () => {
  process.exitCode = 1;
});
stream.compose(new spec()).pipe(process.stdout);
