// What all shells are told of a command.
import type { CommandEntry, Value } from "../../command-line/option-table.ts";

/** An option that takes a value, and all its spellings. */
export interface Valued {
  path: string;
  flags: string[];
  value: Value;
}

export function valuedOptions({ path, options }: CommandEntry): Valued[] {
  return options.flatMap(({ long, short, value }) => {
    return value === undefined ? [] : [{ path, flags: present([long, short]), value }];
  });
}

/** What may follow a command. Options that take a value end with "=". */
export function offers(entry: CommandEntry) {
  const values = entry.arguments.map(({ value }) => value);
  const commands = entry.subcommands.map(({ name }) => name);
  return {
    options: entry.options.flatMap(({ long, value }) => (long ? [value ? `${long}=` : long] : [])),
    commands,
    words: [...commands, ...values.flatMap(({ choices }) => choices)],
    kind: values.find(({ completes }) => completes !== undefined)?.completes,
  };
}

export function present<T>(values: readonly (T | undefined)[]): T[] {
  return values.filter((value) => value !== undefined);
}
