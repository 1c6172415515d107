// What all our programs' command lines have in common: how options are read, and how a wrong one is answered.
import { Command, CommanderError, type Help, type Option } from "commander";
import { UsageError } from "../options/option.ts";
import * as types from "../options/types.ts";

export { type Command, CommanderError, type Help, type Option as CommandOption, UsageError };

export const STATUS_FAILED = 1;
export const STATUS_USAGE = 2;

const HELP_WIDTH = 80;

/** Refuses a second value for an option that has one: the first would be dropped without a word. */
class StrictCommand extends Command {
  arePassed: (args: readonly string[]) => boolean = () => false;

  override createCommand(name?: string): Command {
    return new StrictCommand(name);
  }

  /** Without its value, with which it would be like no other. */
  unknownOption(flag: string): void {
    if (this.arePassed(this.args)) return;
    (Command.prototype as unknown as { unknownOption(flag: string): void }).unknownOption.call(
      this,
      flag.replace(/=.*/s, ""),
    );
  }

  override addOption(option: Option): this {
    super.addOption(option);
    // A reader with a second parameter adds to what was given before.
    const collects = option.variadic || (option.parseArg?.length ?? 0) > 1;
    const takesOneValue = (option.required || option.optional) && !collects;
    if (!takesOneValue) return this;
    let isGiven = false;
    return this.on(`option:${option.name()}`, () => {
      if (isGiven) throw new UsageError(`${option.long ?? option.short} is given twice, and takes one value`);
      isGiven = true;
    });
  }
}

/** A program that throws what is wrong with its options, and whose subcommands take after it. */
export function newProgram(name: string): Command {
  return (
    new StrictCommand(name)
      .exitOverride()
      // Their arguments would leave no room for what they are.
      .configureHelp({ subcommandTerm: (subcommand) => subcommand.name() })
      .configureOutput({ outputError: () => {}, getOutHelpWidth: () => HELP_WIDTH })
  );
}

/** Options that a command doesn't know are arguments of it, where its arguments are such that something else reads them. */
export function passOptions(command: Command, arePassed: (args: readonly string[]) => boolean): void {
  (command as StrictCommand).arePassed = arePassed;
}

/** Reads an option's value, and can say what it accepts: to manual pages and shells. */
export type ValueReader<T> = ((text: string) => T) & {
  choices?: readonly string[];
  range?: { least: number; most: number };
};

/** Throws UsageError for what the type does not take. */
export function readerOf<T>(type: types.OptionType<T>, option: string): ValueReader<T> {
  const read = (text: string) => {
    const value = type.read(text);
    if (value !== undefined) return value;
    if (type.isPath && text === "") throw new UsageError(`${option}: a path is empty`);
    throw new UsageError(`${option} takes ${type.takes}, not "${text}"`);
  };
  const { choices, range } = type;
  return Object.assign(read, { ...(choices && { choices }), ...(range && { range }) });
}

export function wholeNumber(least: number, most: number, option: string): ValueReader<number> {
  return readerOf(types.wholeNumber(least, most), option);
}

export function oneOf<const T extends string | number>(
  choices: readonly T[],
  option: string,
): ValueReader<T> {
  return readerOf(types.oneOf(choices), option);
}

/** How long an answer may take, in whole seconds: whole programs, or daemons, are waited for. */
export function timeoutOption(help: string, mostSeconds: number, standard: number) {
  const read = wholeNumber(1, mostSeconds, "--timeout");
  return ["--timeout <SECONDS>", help, read, standard] as const;
}

/** Commander's own, as one sentence. */
export function usageSentence({ message }: CommanderError): string {
  return message
    .replace(/^error: /, "")
    .replace(/\. Expected .*/, "")
    .replace(/\s*\n\s*/g, " ");
}
