// Completion for fish 3.2 and later: a "complete" for each option, with a condition that tells the command.
import {
  type CommandEntry,
  type OptionEntry,
  type Value,
  withSubcommands,
} from "../../command-line/option-table.ts";
import { valuedOptions } from "./table.ts";

export function fishCompletion(programs: readonly CommandEntry[]): string {
  const commands = programs.flatMap(withSubcommands);
  return `# fish completion for ${programs.map(({ name }) => name).join(" ")}

# Whether the words so far make up this command, options and their values aside.
function __vringd_at
    set -l words (commandline -opc)
    set -l command (string replace -r '.*/' '' -- $words[1])
    set -l is_value 0
    for word in $words[2..]
        if test $is_value = 1
            set is_value 0
            continue
        end
        switch "$command $word"
            case ${commands.flatMap(valuedOptions).flatMap(wordsOf).map(quoted).join(" ")}
                set is_value 1
            case ${commands.flatMap(({ subcommands }) => subcommands.map(({ path }) => quoted(path))).join(" ")}
                set command "$command $word"
        end
    end
    test "$command" = "$argv[1]"
end

# Where somebody listens without a file. Names with other characters are left out: anybody may choose them.
function __vringd_abstract
    string match -r '^\\S+ \\S+ \\S+ 00010000 0001 \\S+ +\\d+ @[A-Za-z0-9._/+-]*$' </proc/net/unix | string replace -r '.* ' ''
end

${programs.map(({ name }) => `complete -c ${name} -f`).join("\n")}
${programs.flatMap((program) => withSubcommands(program).flatMap((entry) => linesOf(program.name, entry))).join("\n")}
`;
}

function wordsOf({ path, flags }: { path: string; flags: string[] }): string[] {
  return flags.map((flag) => `${path} ${flag}`);
}

function linesOf(program: string, entry: CommandEntry): string[] {
  const start = `complete -c ${program} -n ${quoted(`__vringd_at "${entry.path}"`)}`;
  return [
    ...entry.options.map((option) => `${start} ${optionOf(option)}`),
    ...entry.subcommands.map(({ name, summary }) => `${start} -a ${name} -d ${quoted(summary)}`),
    ...entry.arguments.flatMap(({ value }) => (takesWords(value) ? [`${start} ${wordsFor(value)}`] : [])),
  ];
}

function optionOf({ long, short, value, summary }: OptionEntry): string {
  const flags = [long && `-l ${long.slice(2)}`, short && `-s ${short.slice(1)}`];
  const words = value === undefined ? undefined : takesWords(value) ? `-r ${wordsFor(value)}` : "-x";
  return [...flags, words, `-d ${quoted(summary)}`].filter(Boolean).join(" ");
}

function takesWords({ choices, completes }: Value): boolean {
  return choices.length > 0 || completes !== undefined;
}

/** What fish runs for a value that is found on the machine. */
const FINDERS = {
  directory: "(__fish_complete_directories)",
  group: "(__fish_complete_groups)",
  socket: "(__vringd_abstract)",
};

function wordsFor({ choices, completes }: Value): string {
  if (completes === "file") return "-F";
  const files = completes === "socket" ? "-F" : "-f";
  return `${files} -a ${quoted(completes ? FINDERS[completes] : choices.join(" "))}`;
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
