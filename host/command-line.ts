// What all our programs' command lines have in common: how options are read, and how a wrong one is answered.
import { Command, CommanderError } from "commander";

export { type Command, CommanderError };

export const STATUS_FAILED = 1;
export const STATUS_USAGE = 2;

const HELP_WIDTH = 80;

/** The command line can't be understood. The message is one sentence. */
export class UsageError extends Error {}

/** A program that throws what is wrong with its options, and whose subcommands take after it. */
export function newProgram(name: string): Command {
  return (
    new Command(name)
      .exitOverride()
      // Their arguments would leave no room for what they are.
      .configureHelp({ subcommandTerm: (subcommand) => subcommand.name() })
      .configureOutput({ outputError: () => {}, getOutHelpWidth: () => HELP_WIDTH })
  );
}

export function wholeNumber(least: number, most: number, option: string): (text: string) => number {
  return (text) => {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new UsageError(`${option} takes a whole number from ${least} to ${most}, not "${text}"`);
  };
}

export function oneOf(choices: readonly (string | number)[], option: string): (text: string) => string {
  return (text) => {
    if (choices.map(String).includes(text)) return text;
    throw new UsageError(`${option} takes one of ${choices.join(", ")}, not "${text}"`);
  };
}

/** Commander's own, as one sentence. */
export function usageSentence({ message }: CommanderError): string {
  return message
    .replace(/^error: /, "")
    .replace(/\. Expected .*/, "")
    .replace(/\s*\n\s*/g, " ");
}
