// `vringd probe`: its options. What it does is loaded when it is called.
import { type Command, wholeNumber } from "../../command-line/program.ts";

export interface ProbeOptions {
  timeout: number;
  json?: true;
}

/** Longer than any back-end needs that answers at all. */
const TIMEOUT_MAX = 3600;

export function addProbe(program: Command): void {
  program
    .command("probe")
    .summary("tell what a block back-end offers")
    .description(
      "Connects to a vhost-user block back-end, of any vendor, and tells what it offers and what disk it has. " +
        "The disk is neither read nor written: only its serial number is asked for.",
    )
    .argument("<SOCKET>", "the Unix socket at which it listens")
    .option(...timeoutOption)
    .option("--json", "print JSON, for programs")
    .addHelpText(
      "after",
      "\nExit status: 0 if it answered, 1 if it did not or has no block device, 2 for wrong usage.",
    )
    .action(async (socketPath: string, options: ProbeOptions) => {
      const { probe } = await import("./probe.ts");
      await probe(socketPath, options);
    });
}

export const timeoutOption = [
  "--timeout <SECONDS>",
  "how long the back-end may take for its answers",
  wholeNumber(1, TIMEOUT_MAX, "--timeout"),
  5,
] as const;
