// A program's commands and options as data, read from what its command line is parsed with: for manual pages and shells.
import type { EventEmitter } from "node:events";
import type { Command, CommandOption, Help, ValueReader } from "./program.ts";

/** What a shell may look for on the machine. A "socket" is a file, or the abstract name of one that somebody listens at. */
export type Completion = "file" | "directory" | "socket" | "group";

/** What a shell may offer for a value: what it finds on the machine, or one of `choices`. */
export interface Value {
  name: string;
  choices: readonly string[];
  completes: Completion | undefined;
}

export interface OptionEntry {
  long: string | undefined;
  short: string | undefined;
  /** Undefined for a switch. */
  value: Value | undefined;
  /** What an option does, as `--help` says it. */
  summary: string;
  /** The same, with the default and the range. */
  description: string;
  group: string;
}

export interface ArgumentEntry {
  value: Value;
  description: string;
  isVariadic: boolean;
}

export interface CommandEntry {
  /** With those of its parents: "vringd backends list". */
  path: string;
  name: string;
  summary: string;
  description: string;
  /** As `--help` has it: the path, and what may follow. */
  usage: string;
  options: OptionEntry[];
  arguments: ArgumentEntry[];
  subcommands: CommandEntry[];
  /** What `--help` ends with. */
  epilogue: string;
}

/** A value whose name says where it is found. A new option needs no entry here if it uses such a name. */
const COMPLETES: Readonly<Record<string, Value["completes"]>> = {
  PATH: "file",
  FILE: "file",
  OVERLAY: "file",
  OUTPUT: "file",
  NEW_BASE: "file",
  SOCKET: "socket",
  DIRECTORY: "directory",
  DIR: "directory",
  GROUP: "group",
};

/** Options whose values' names say too little. */
const COMPLETES_OPTION: Readonly<Record<string, Value["completes"]>> = {
  "--directory": "directory",
  "--connect": "socket",
};

export function tableOf(command: Command, parents = ""): CommandEntry {
  const help = command.createHelp();
  const path = `${parents}${command.name()}`;
  return {
    path,
    name: command.name(),
    summary: help.subcommandDescription(command),
    description: help.commandDescription(command),
    usage: help.commandUsage(command),
    options: help.visibleOptions(command).map((option) => optionEntry(option, help)),
    arguments: command.registeredArguments.map((argument) => ({
      value: valueNamed(argument.name(), argument.parseArg, argument.argChoices),
      description: argument.description,
      isVariadic: argument.variadic,
    })),
    subcommands: help.visibleCommands(command).map((each) => tableOf(each, `${path} `)),
    epilogue: epilogueOf(command),
  };
}

/** It and all below it. */
export function withSubcommands(entry: CommandEntry): CommandEntry[] {
  return [entry, ...entry.subcommands.flatMap(withSubcommands)];
}

function optionEntry(option: CommandOption, help: Help): OptionEntry {
  const name = / [<[](.+)[>\]]$/.exec(option.flags)?.[1];
  const value = name === undefined ? undefined : valueNamed(name, option.parseArg, option.argChoices);
  if (value) value.completes = COMPLETES_OPTION[option.long ?? ""] ?? value.completes;
  const range = (option.parseArg as Partial<ValueReader<unknown>> | undefined)?.range;
  return {
    long: option.long ?? undefined,
    short: option.short ?? undefined,
    value,
    summary: option.description,
    description: help.optionDescription(option) + (range ? `; from ${range.least} to ${range.most}` : ""),
    group: (option.helpGroupHeading ?? "Options:").replace(/:$/, ""),
  };
}

function valueNamed(name: string, read: unknown, choices: readonly string[] | undefined): Value {
  return {
    name,
    choices: (read as Partial<ValueReader<unknown>> | undefined)?.choices ?? choices ?? [],
    completes: COMPLETES[name.toUpperCase()],
  };
}

/** What was given to addHelpText("after"): commander writes it for an event. */
function epilogueOf(command: Command): string {
  let text = "";
  const write = (part: string) => {
    text += part;
  };
  (command as unknown as EventEmitter).emit("afterHelp", { error: false, command, write });
  return text.trim();
}
