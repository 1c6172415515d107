// Both programs' options, for one shell.

import { type CommandEntry, tableOf } from "../../command-line/option-table.ts";
import type { Command } from "../../command-line/program.ts";
import { bashCompletion } from "./bash.ts";
import type { Shell } from "./command.ts";
import { fishCompletion } from "./fish.ts";
import { zshCompletion } from "./zsh.ts";

const WRITERS: Record<Shell, (programs: readonly CommandEntry[]) => string> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

export async function completionFor(shell: Shell, toolbox: Command): Promise<string> {
  const { commandLine } = await import("../../programs/cli.ts");
  return WRITERS[shell]([tableOf(toolbox), tableOf(commandLine())]);
}
