// A command line made from a table of options, and what it says as values by name.
import { flagOf, type Option, type OptionTable, UsageError, type ValuesOf } from "../options/option.ts";
import { type Command, readerOf, type ValueReader } from "./program.ts";

/** Adds the options in their order, each below its heading. */
export function addOptions(command: Command, table: OptionTable): void {
  for (const [name, each] of Object.entries(table)) {
    command.optionsGroup(`${each.group ?? "Options"}:`);
    addOption(command, flagOf(name), each);
  }
}

function addOption(
  command: Command,
  flag: string,
  { type, value, help, default: standard, isList }: Option<unknown>,
) {
  if (type === undefined) command.option(flag, help);
  else if (isList) command.option(`${flag} <${value}>`, help, collect(readerOf(type, flag)));
  else command.option(`${flag} <${value}>`, help, readerOf(type, flag), standard);
}

function collect<T>(read: ValueReader<T>): (text: string, before: T[] | undefined) => T[] {
  return (text, before) => [...(before ?? []), read(text)];
}

/** Throws UsageError if one is missing without which nothing can be done. */
export function valuesOf<T extends OptionTable>(table: T, given: Record<string, unknown>): ValuesOf<T> {
  const entries = Object.entries(table).map(([name, { required, unless = name, default: standard }]) => {
    const value = given[name] ?? negated(name, given);
    if (required !== undefined && value === undefined && given[unless] === undefined)
      throw new UsageError(`${flagOf(name)} is missing: ${required}`);
    return [name, value ?? standard];
  });
  return Object.fromEntries(entries) as ValuesOf<T>;
}

/** commander takes a switch such as --no-grab for the opposite of "grab", which is true unless it is given. */
function negated(name: string, given: Record<string, unknown>): boolean | undefined {
  const [, initial, rest] = /^no([A-Z])(.*)$/.exec(name) ?? [];
  return initial !== undefined && given[initial.toLowerCase() + rest] === false ? true : undefined;
}
