// What an option's value may be: how it is read from a command line, what a program may give, and how to say what it takes.

export interface OptionType<T> {
  /** What follows "takes" in a sentence. */
  readonly takes: string;
  /** Undefined for what it does not take. */
  read(text: string): T | undefined;
  /** Whether a program may give this value. */
  accepts(value: unknown): value is T;
  /** Whether it names something in the file system. */
  readonly isPath?: boolean;
  readonly choices?: readonly string[];
  readonly range?: { readonly least: number; readonly most: number };
}

export function wholeNumber(least: number, most: number): OptionType<number> {
  const accepts = (value: unknown): value is number =>
    Number.isInteger(value) && Number(value) >= least && Number(value) <= most;
  return {
    takes: `a whole number from ${least} to ${most}`,
    read: (text) => (/^\d{1,10}$/.test(text) && accepts(Number(text)) ? Number(text) : undefined),
    accepts,
    range: { least, most },
  };
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** In bytes, or with K, M or G in those of 1024, such as 64M. */
export function byteSize(least: number, most: number): OptionType<number> {
  const { accepts } = wholeNumber(least, most);
  return {
    takes: `bytes from ${least} to ${most}, such as 64M`,
    read(text) {
      const [, digits, unit = ""] = /^(\d{1,12})([kmg]?)$/i.exec(text) ?? [];
      const bytes = Number(digits) * UNITS[unit.toLowerCase()]!;
      return accepts(bytes) ? bytes : undefined;
    },
    accepts,
    range: { least, most },
  };
}

export function oneOf<const T extends string | number>(choices: readonly T[]): OptionType<T> {
  return {
    takes: `one of ${choices.join(", ")}`,
    read: (text) => choices.find((choice) => String(choice) === text),
    accepts: (value): value is T => choices.includes(value as T),
    choices: choices.map(String),
  };
}

/** Several, with commas between them. Never empty. */
export function listOf<T>(each: OptionType<T>): OptionType<readonly T[]> {
  return {
    takes: `${each.takes}, or several with commas between them`,
    read(text) {
      const read = text.split(",").map((part) => each.read(part));
      return read.includes(undefined) ? undefined : (read as T[]);
    },
    accepts: (value): value is readonly T[] =>
      Array.isArray(value) && value.length > 0 && value.every((part) => each.accepts(part)),
  };
}

/** Of a file, a socket or something else that a name stands for. Never empty. */
export const path: OptionType<string> = {
  takes: "a path",
  read: (text) => text || undefined,
  accepts: (value): value is string => typeof value === "string" && value !== "",
  isPath: true,
};

/** Printable ASCII, up to so many characters. */
export function asciiText(longest: number): OptionType<string> {
  const accepts = (value: unknown): value is string =>
    typeof value === "string" && value.length <= longest && /^[\x20-\x7e]*$/.test(value);
  return {
    takes: `at most ${longest} ASCII characters`,
    read: (text) => (accepts(text) ? text : undefined),
    accepts,
  };
}

export const fileMode: OptionType<number> = {
  takes: "an octal mode such as 660",
  read: (text) => (/^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : undefined),
  accepts: (value): value is number =>
    Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 0o777,
};

/** (gid_t)-1 means none. */
const GID_MAX = 0xffffffff;

export const groupName: OptionType<string> = {
  takes: "the name or the number of a group",
  read: (text) => (groupName.accepts(text) ? text : undefined),
  accepts: (value): value is string =>
    typeof value === "string" && value !== "" && (!/^\d+$/.test(value) || Number(value) < GID_MAX),
};
