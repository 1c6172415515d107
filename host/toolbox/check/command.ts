// `vringd check`: its options. What it does is loaded when it is called.
import type { Command } from "../../command-line/program.ts";

export function addCheck(program: Command): void {
  program
    .command("check")
    .summary("check files of disks, or of guests")
    .description(
      "Checks files that list what one process serves: disks (--config) or guests (--guests-file). Nothing is opened that they name.",
    )
    .argument("<FILE...>", "the files")
    .addHelpText("after", "\nExit status: 0 if all can be served, 1 if not, 2 for wrong usage.")
    .action(async (paths: readonly string[]) => {
      const { check } = await import("./check.ts");
      process.exitCode = await check(paths);
    });
}
