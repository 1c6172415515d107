#!/usr/bin/env node
// The program vringd-vsock. All that is imported at once is opened before any code of ours runs, so nothing of ours is: that it can't
// be loaded is told in a sentence.
import { writeSync } from "node:fs";

const NAME = "vringd-vsock";
const TOO_MANY = "too many open files: raise the limit of open files (ulimit -n, LimitNOFILE=)";

// Until the rest is there: by itself Node opens a debugger, which runs code for every user of this machine.
process.on("SIGUSR1", () => {});
import("./entry.ts")
  .then(({ startDevice }) => startDevice(NAME, "vsock"))
  .catch((error: NodeJS.ErrnoException) => {
    const isLimit = error.code === "EMFILE" || error.code === "ENFILE";
    writeSync(2, `${NAME}: can't be loaded: ${isLimit ? TOO_MANY : error.stack}\n`);
    process.exitCode = 1;
  });
