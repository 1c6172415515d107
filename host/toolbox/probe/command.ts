// `vringd probe`: its options. What it does is loaded when it is called.
import { type Command, timeoutOption } from "../../command-line/program.ts";

export interface ProbeOptions {
  timeout: number;
  json?: true;
}

/** Longer than any back-end needs that answers at all. */
const TIMEOUT_MAX = 3600;

export const answerTimeout = timeoutOption("how long the back-end may take for its answers", TIMEOUT_MAX, 5);

export function addProbe(program: Command): void {
  program
    .command("probe")
    .summary("tell what a back-end offers")
    .description(
      "Connects to a vhost-user back-end, of any vendor and for any device, and tells what it offers and, if it has a " +
        "disk, which. The disk is neither read nor written: only its serial number is asked for.",
    )
    .argument("<SOCKET>", "the Unix socket at which it listens")
    .option(...answerTimeout)
    .option("--json", "print JSON, for programs")
    .addHelpText("after", "\nExit status: 0 if it answered, 1 if it did not, 2 for wrong usage.")
    .action(async (socketPath: string, options: ProbeOptions) => {
      const { probe } = await import("./probe.ts");
      await probe(socketPath, options);
    });
}
