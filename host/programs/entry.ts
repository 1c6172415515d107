// How our programs begin, once they are loaded: signals and output first, since all else can fail.
import { DEVICES } from "../devices/index.ts";
import { guardOutput } from "../process/output.ts";
import { takeUserSignals } from "../process/signals.ts";

/** A device's program. Management software asks for its capabilities often, and gets them without all the rest. */
export async function startDevice(name: string, type: string): Promise<void> {
  takeUserSignals();
  guardOutput(name);
  const program = await DEVICES[type]!();
  // "Other options and arguments should be ignored" (vhost-user, "Backend program conventions").
  if (process.argv.includes("--print-capabilities")) {
    process.stdout.write(`${JSON.stringify(program.capabilities)}\n`);
  } else (await import("./device-program.ts")).run(program);
}

export async function startToolbox(name: string): Promise<void> {
  takeUserSignals();
  guardOutput(name);
  (await import("../toolbox/cli.ts")).run();
}
