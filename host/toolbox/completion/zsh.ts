// Completion for zsh: a function a command, which hands its options to _arguments.
import {
  type ArgumentEntry,
  type CommandEntry,
  type OptionEntry,
  type Value,
  withSubcommands,
} from "../../command-line/option-table.ts";
import { present } from "./table.ts";

export function zshCompletion(programs: readonly CommandEntry[]): string {
  const names = programs.map(({ name }) => name);
  return `#compdef ${names.join(" ")}

${programs.flatMap(withSubcommands).map(functionOf).join("\n\n")}

# Files, and where somebody listens without one. Names with other characters are left out: anybody may choose them.
_vringd_sockets() {
  local line
  local -a fields names
  while read -r line; do
    fields=($=line)
    if [[ $fields[4] == 00010000 && $fields[5] == 0001 && $fields[8] == @* && $fields[8] != ?*[^A-Za-z0-9._/+-]* ]]; then
      names+=($fields[8])
    fi
  done < /proc/net/unix
  compadd -a names
  _files
}

_vringd() {
  case $service in
${names.map((name) => `    ${name}) ${functionName(name)} ;;`).join("\n")}
  esac
}

# Loaded from $fpath it is called at once; read by "source" it is made known.
if [[ $funcstack[1] == _vringd ]]; then _vringd "$@"; else compdef _vringd ${names.join(" ")}; fi
`;
}

function functionOf(entry: CommandEntry): string {
  const specs = entry.options.flatMap(optionSpecs);
  if (entry.subcommands.length === 0) {
    const all = [...specs, ...entry.arguments.map(argumentSpec)];
    return `${functionName(entry.path)}() {\n  _arguments \\\n${all.map((spec) => `    ${quoted(spec)}`).join(" \\\n")}\n}`;
  }
  return `${functionName(entry.path)}() {
  local curcontext=$curcontext state line
  _arguments -C \\
${[...specs, "1: :->command", "*:: :->rest"].map((spec) => `    ${quoted(spec)}`).join(" \\\n")}
  case $state in
    command)
      local -a commands=(
${entry.subcommands.map(({ name, summary }) => `        ${quoted(`${name}:${escaped(summary)}`)}`).join("\n")}
      )
      _describe command commands ;;
    rest)
      case $line[1] in
${entry.subcommands.map(({ name, path }) => `        ${name}) ${functionName(path)} ;;`).join("\n")}
      esac ;;
  esac
}`;
}

/** The star: it may be given again. */
function optionSpecs({ long, short, value, summary }: OptionEntry): string[] {
  const flags = value ? present([long && `${long}=`, short && `${short}+`]) : present([long, short]);
  const end = value ? `:${valueSpec(value)}` : "";
  return flags.map((flag) => `*${flag}[${escaped(summary)}]${end}`);
}

function argumentSpec({ value, isVariadic }: ArgumentEntry): string {
  return `${isVariadic ? "*" : ""}:${valueSpec(value)}`;
}

function valueSpec({ name, choices, completes }: Value): string {
  const title = escaped(name);
  // _files -/ would offer files where there is no directory.
  if (completes === "directory") return `${title}:_path_files -/`;
  if (completes === "file") return `${title}:_files`;
  if (completes === "socket") return `${title}:_vringd_sockets`;
  if (completes === "group") return `${title}:_groups`;
  return choices.length > 0 ? `${title}:(${choices.join(" ")})` : `${title}: `;
}

/** The one that is loaded from $fpath has the plain name. */
function functionName(path: string): string {
  return `__${path.replaceAll(" ", "__")}`;
}

/** For what _arguments and _describe read. */
function escaped(text: string): string {
  return text.replace(/[\\:[\]]/g, "\\$&");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
