// How options name a chip of this machine, and lines.
import type { OptionType } from "../options/types.ts";

/** As other back-ends take them: a chip for each of several guests, by number, or with s a simulated one. */
const LIST = /^s?\d+(:s?\d+)*$|[:,]\//;

/** By its path, or by N. */
export const chipPath: OptionType<string> = {
  takes: "one chip, as /dev/gpiochipN or N: for each further one, start a program with a socket of its own",
  read(text) {
    if (/^\d{1,9}$/.test(text)) return `/dev/gpiochip${text}`;
    return text === "" || LIST.test(text) ? undefined : text;
  },
  accepts: (value): value is string => typeof value === "string" && value !== "",
  isPath: true,
};

/** So many can wait for an interrupt at a time, in the rings that QEMU has. */
const LINES_MAX = 256;
/** Linux shows no longer ones. */
const NAME_MAX = 31;

export const lineNames: OptionType<readonly string[]> = {
  takes: `up to ${LINES_MAX} names of lines with commas between them, each of up to ${NAME_MAX} ASCII characters and no two alike`,
  read(text) {
    const names = text.split(",");
    return lineNames.accepts(names) ? names : undefined;
  },
  accepts(value): value is readonly string[] {
    if (!Array.isArray(value) || value.length === 0 || value.length > LINES_MAX) return false;
    return value.every(isName) && new Set(value).size === value.length;
  },
};

function isName(value: unknown): boolean {
  return (
    typeof value === "string" && value.length <= NAME_MAX && /^[\x21-\x7e]+( +[\x21-\x7e]+)*$/.test(value)
  );
}
