// `vringd doctor`: its options. What it does is loaded when it is called.
import type { Command } from "../../command-line/program.ts";

export interface DoctorOptions {
  image?: string;
  json?: true;
}

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .summary("find out whether vringd can run here")
    .description(
      "Tries what vringd needs of this machine, and tells what to change. Nothing is changed, and no data is read.",
    )
    .option(
      "--image <PATH>",
      "also look at this image, block device or rbd:POOL/IMAGE; or at a directory that is to hold images (default: where you are)",
    )
    .option("--json", "print JSON, for programs")
    .addHelpText(
      "after",
      "\nExit status: 0 if vringd can run, 1 if something keeps it from running, 2 for wrong usage.",
    )
    .action(async (options: DoctorOptions) => {
      const { doctor } = await import("./doctor.ts");
      process.exitCode = await doctor(options);
    });
}
