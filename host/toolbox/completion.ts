// `vringd completion`: what shells need to complete the command lines of both programs.
import { type Command, oneOf } from "../command-line.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

export type Shell = (typeof SHELLS)[number];

const WHERE = `
Where shells look for it:
  bash  ~/.local/share/bash-completion/completions/vringd, and a link to it,
        vringd-blk; or source <(vringd completion bash) in ~/.bashrc
  zsh   a directory of $fpath, as _vringd; or, in ~/.zshrc after compinit,
        source <(vringd completion zsh)
  fish  ~/.config/fish/conf.d/vringd.fish

Exit status: 0, or 2 for wrong usage.`;

export function addCompletion(program: Command): void {
  program
    .command("completion")
    .summary("print what a shell needs to complete options")
    .description("Prints what a shell needs to complete the command lines of vringd and vringd-blk.")
    .argument("<SHELL>", SHELLS.join(", "), oneOf(SHELLS, "completion"))
    .addHelpText("after", WHERE)
    .action(async (shell: Shell) => {
      const { completionFor } = await import("./completion/completion.ts");
      process.stdout.write(await completionFor(shell, program));
    });
}
