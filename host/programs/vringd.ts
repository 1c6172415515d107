#!/usr/bin/env node
// The program vringd, the toolbox.
import { writeSync } from "node:fs";

const NAME = "vringd";
const TOO_MANY = "too many open files: raise the limit of open files (ulimit -n, LimitNOFILE=)";

async function start(): Promise<void> {
  const { takeUserSignals } = await import("../process/signals.ts");
  takeUserSignals();
  const { guardOutput } = await import("../process/output.ts");
  guardOutput(NAME);
  await import("../toolbox/cli.ts").then(({ run }) => run());
}

// Until the rest is there: by itself Node opens a debugger, which runs code for every user of this machine.
process.on("SIGUSR1", () => {});
// All that is imported is opened at the same time, so nothing of ours is before this can be told in a sentence.
start().catch((error: NodeJS.ErrnoException) => {
  const isLimit = error.code === "EMFILE" || error.code === "ENFILE";
  writeSync(2, `${NAME}: can't be loaded: ${isLimit ? TOO_MANY : error.stack}\n`);
  process.exitCode = 1;
});
