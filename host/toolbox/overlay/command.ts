// `vringd overlay`: its subcommands' options. What they do is loaded when they are called.
import type { Command } from "../../command-line/program.ts";

export interface BaseOptions {
  base?: string;
}

export interface InfoOptions extends BaseOptions {
  json?: true;
}

export interface FlattenOptions extends BaseOptions {
  force?: true;
}

export interface RebaseOptions extends BaseOptions {
  unsafe?: true;
}

export function addOverlay(program: Command): void {
  const overlay = program
    .command("overlay")
    .summary("look at overlays, commit, flatten and rebase them")
    .description(
      "Works on the files that --overlay keeps changes in. All but info refuse one that is in use, and its base. Killed or stopped " +
        "at any time, each leaves an overlay that shows what it showed before.",
    )
    .helpCommand(false);
  addInfo(overlay);
  addCommit(overlay);
  addFlatten(overlay);
  addRebase(overlay);
}

function addInfo(overlay: Command): void {
  withBase(overlay.command("info"))
    .summary("show what an overlay holds, and whether its base is what it was")
    .description(
      "Shows an overlay's base and whether that is still what it was, sizes, what is flushed, and who uses it.",
    )
    .option("--json", "print JSON, for programs")
    .addHelpText("after", "\nExit status: 0 if it can be served over its base, 1 if not, 2 for wrong usage.")
    .action(async (path: string, options: InfoOptions) => {
      const { info } = await import("./info.ts");
      process.exitCode = await info(path, options);
    });
}

function addCommit(overlay: Command): void {
  withBase(overlay.command("commit"))
    .summary("write an overlay's blocks into its base")
    .description(
      "Writes all that an overlay has into its base. The overlay is empty then, and can be served over the base, or " +
        "removed; other overlays of that base are refused from then on. Stopped before its end, it is to be called again: " +
        "until that has ended the overlay can be served over the base, and the base alone is refused.",
    )
    .addHelpText("after", exitStatus("the base has all"))
    .action(async (path: string, options: BaseOptions) => {
      const { commitOverlay } = await import("./commit.ts");
      process.exitCode = await commitOverlay(path, options);
    });
}

function addFlatten(overlay: Command): void {
  withBase(overlay.command("flatten"))
    .summary("make a raw image of what a guest sees")
    .description(
      "Writes what a guest sees of an overlay over its base to a raw image, with holes where that is zeroes. The image " +
        "has its name once it is whole and stable.",
    )
    .argument("<OUTPUT>", "the image to make")
    .option("--force", "replace a file that has that name")
    .addHelpText("after", exitStatus("the image is there"))
    .action(async (path: string, output: string, options: FlattenOptions) => {
      const { flattenOverlay } = await import("./flatten.ts");
      process.exitCode = await flattenOverlay(path, output, options);
    });
}

function addRebase(overlay: Command): void {
  withBase(overlay.command("rebase"))
    .summary("put an overlay over another base")
    .description(
      "Puts an overlay over another base of the same size, and what a guest sees stays as it is: where the two bases " +
        "differ, the overlay takes over what the former one has.",
    )
    .argument("<NEW_BASE>", "the base from now on: a file or a block device")
    .option(
      "--unsafe",
      "take NEW_BASE as it is, and compare nothing: for a base of which the time alone has changed, or that was copied. " +
        "If it holds something else, so does what the guest sees",
    )
    .addHelpText("after", exitStatus("the overlay lies over NEW_BASE"))
    .action(async (path: string, newBase: string, options: RebaseOptions) => {
      const { rebaseOverlay } = await import("./rebase.ts");
      process.exitCode = await rebaseOverlay(path, newBase, options);
    });
}

function withBase(command: Command): Command {
  return command
    .argument("<OVERLAY>", "the file of --overlay")
    .option("--base <PATH>", "the file or device that it lies over (default: where it was when it was made)");
}

function exitStatus(success: string): string {
  return `\nExit status: 0 if ${success}, 1 if not, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM.`;
}
