// The unit tests of the core: node tests/core/run.mjs. CORE_UNIT=uring runs tests/core/uring.unit.ts alone.
import { chdir } from "node:process";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { asp } from "@as-pect/cli";
import { tally } from "./reporter.mjs";

/** As much as it takes beside guests, on a machine that has other things to do, too. */
const TIME_LIMIT_MS = 480_000;

chdir(fileURLToPath(new URL("../..", import.meta.url)));
watch(TIME_LIMIT_MS);

let isFinished = false;
process.on("exit", (status) => {
  // as-pect leaves with 0 when no file matched, and with 1 from wherever a compilation fails.
  const failed = tally.failed + (isFinished || tally.failed > 0 ? 0 : 1);
  if (failed > 0 || tally.passed === 0) process.exitCode = status || 1;
  write(`${tally.passed} passed, ${failed} failed\n`);
});

const write = process.stdout.write.bind(process.stdout);
process.stdout.write = () => true;
// In this process: as-pect's own program turns a runner that was killed into status 0.
await asp([
  ...process.argv.slice(0, 2),
  "--config=tests/core/as-pect.config.js",
  "--as-config=tests/core/as-pect.asconfig.json",
]);
isFinished = true;
process.exit();

/** A loop in Wasm that never ends blocks this thread and its timers; only another thread can end it. */
function watch(limitMs) {
  const code = `setTimeout(() => {
    require("node:fs").writeSync(1, "No end after ${limitMs / 1000} s.\\n0 passed, 1 failed\\n");
    process.kill(${process.pid}, "SIGKILL");
  }, ${limitMs});`;
  new Worker(code, { eval: true }).unref();
}
