// `vringd completion`: what shells need to complete the command lines of all programs.
import { type Command, oneOf } from "../../command-line/program.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

export type Shell = (typeof SHELLS)[number];

const WHERE = `
Where shells look for it, or what reads it from their start-up file:
  bash  ~/.local/share/bash-completion/completions/vringd,
        and links to it by the daemons' names;
        or source <(vringd completion bash)
  zsh   _vringd in a directory of $fpath;
        or, after compinit, source <(vringd completion zsh)
  fish  ~/.config/fish/conf.d/vringd.fish

Exit status: 0, or 2 for wrong usage.`;

export function addCompletion(program: Command): void {
  program
    .command("completion")
    .summary("print what a shell needs to complete options")
    .description("Prints what a shell needs to complete the command lines of vringd and of its daemons.")
    .argument("<SHELL>", SHELLS.join(", "), oneOf(SHELLS, "completion"))
    .addHelpText("after", WHERE)
    .action(async (shell: Shell) => {
      const { completionFor } = await import("./completion.ts");
      process.stdout.write(await completionFor(shell, program));
    });
}
