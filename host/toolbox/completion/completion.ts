// All programs' options, for one shell.

import { type CommandEntry, tableOf } from "../../command-line/option-table.ts";
import type { Command } from "../../command-line/program.ts";
import { allPrograms } from "../../devices/index.ts";
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
  const { commandLineOf } = await import("../../programs/command-line.ts");
  const daemons = (await allPrograms()).map((program) => tableOf(commandLineOf(program)));
  return WRITERS[shell]([tableOf(toolbox), ...daemons]);
}
