#!/usr/bin/env node
// The program vringd-blk. Management software asks for its capabilities often, and gets them without all the rest.
import { CAPABILITIES } from "./capabilities.ts";

// "Other options and arguments should be ignored" (vhost-user, "Backend program conventions").
if (process.argv.includes("--print-capabilities")) {
  process.stdout.write(`${JSON.stringify(CAPABILITIES)}\n`);
} else {
  import("./cli.ts").then(({ run }) => run());
}
