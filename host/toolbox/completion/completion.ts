// Both programs' options, for one shell.
import type { Command } from "../../command-line.ts";
import { type CommandEntry, tableOf } from "../../option-table.ts";
import type { Shell } from "../completion.ts";
import { bashCompletion } from "./bash.ts";
import { fishCompletion } from "./fish.ts";
import { zshCompletion } from "./zsh.ts";

const WRITERS: Record<Shell, (programs: readonly CommandEntry[]) => string> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

export async function completionFor(shell: Shell, toolbox: Command): Promise<string> {
  const { commandLine } = await import("../../cli.ts");
  return WRITERS[shell]([tableOf(toolbox), tableOf(commandLine())]);
}
