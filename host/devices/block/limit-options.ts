// The options that limit a disk, one for each name of limits.ts.
import { inGroup, type Option, option } from "../../options/option.ts";
import type { OptionType } from "../../options/types.ts";
import { IOPS_SIZE_MAX, LIMIT_MAX, LIMIT_NAMES, type LimitName, MAX_LENGTH_MAX } from "./limits.ts";

function upTo(most: number): OptionType<number> {
  const accepts = (value: unknown): value is number =>
    Number.isInteger(value) && Number(value) >= 0 && Number(value) <= most;
  return {
    takes: `a whole number from 0 to ${most}`,
    read: (text) => (/^\d{1,16}$/.test(text) && accepts(Number(text)) ? Number(text) : undefined),
    accepts,
    range: { least: 0, most },
  };
}

const AMOUNT = upTo(LIMIT_MAX);
const SECONDS = upTo(MAX_LENGTH_MAX);
const BYTES = upTo(IOPS_SIZE_MAX);

/** What a value may be. */
export function limitType(name: LimitName): OptionType<number> {
  if (name === "iopsSize") return BYTES;
  return name.endsWith("MaxLength") ? SECONDS : AMOUNT;
}

const WHAT: Readonly<Record<string, string>> = {
  iopsTotal: "requests",
  iopsRead: "reads",
  iopsWrite: "writes, discards and write-zeroes",
  bpsTotal: "bytes",
  bpsRead: "bytes read",
  bpsWrite: "bytes written, discarded or zeroed",
};

function optionOf(name: LimitName): Option<number | undefined> {
  const [, kind = "", suffix = ""] = /^(.*?)(Max|MaxLength)?$/.exec(name)!;
  if (name === "iopsSize")
    return option({
      type: BYTES,
      value: "BYTES",
      help: "count a larger request as several of so many bytes",
    });
  if (suffix === "MaxLength") return option({ type: SECONDS, value: "SECONDS", help: "for so long (1)" });
  const help =
    suffix === "Max" ? "as many in a burst" : `${WHAT[kind]} a second at the most; 0: as many as come`;
  return option({ type: AMOUNT, value: "N", help });
}

export const LIMIT_OPTIONS = inGroup(
  "Limits",
  Object.fromEntries(LIMIT_NAMES.map((name) => [name, optionOf(name)])) as Record<
    LimitName,
    Option<number | undefined>
  >,
);
