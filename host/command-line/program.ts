// What all our programs' command lines have in common: how options are read, and how a wrong one is answered.
import { Command, CommanderError, type Help, type Option } from "commander";

export { type Command, CommanderError, type Help, type Option as CommandOption };

export const STATUS_FAILED = 1;
export const STATUS_USAGE = 2;

const HELP_WIDTH = 80;

/** The command line can't be understood. The message is one sentence. */
export class UsageError extends Error {}

/** Refuses a second value for an option that has one: the first would be dropped without a word. */
class StrictCommand extends Command {
  override createCommand(name?: string): Command {
    return new StrictCommand(name);
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

/** Reads an option's value, and can say what it accepts: to manual pages and shells. */
export type ValueReader<T> = ((text: string) => T) & {
  choices?: readonly string[];
  range?: { least: number; most: number };
};

export function wholeNumber(least: number, most: number, option: string): ValueReader<number> {
  const read = (text: string) => {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new UsageError(`${option} takes a whole number from ${least} to ${most}, not "${text}"`);
  };
  return Object.assign(read, { range: { least, most } });
}

export function oneOf(choices: readonly (string | number)[], option: string): ValueReader<string> {
  const names = choices.map(String);
  const read = (text: string) => {
    if (names.includes(text)) return text;
    throw new UsageError(`${option} takes one of ${names.join(", ")}, not "${text}"`);
  };
  return Object.assign(read, { choices: names });
}

export function numberOneOf(choices: readonly number[], option: string): ValueReader<number> {
  const read = oneOf(choices, option);
  return Object.assign((text: string) => Number(read(text)), { choices: read.choices! });
}

/** Commander's own, as one sentence. */
export function usageSentence({ message }: CommanderError): string {
  return message
    .replace(/^error: /, "")
    .replace(/\. Expected .*/, "")
    .replace(/\s*\n\s*/g, " ");
}
