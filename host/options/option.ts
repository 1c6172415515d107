// A table of options: each is declared once, and the command line, the library's checks, manual pages, completion and messages
// are made from that.
import { StartError } from "../errors.ts";
import type { OptionType } from "./types.ts";

/** The command line can't be understood. The message is one sentence. */
export class UsageError extends Error {}

type ElementOf<T> = T extends readonly (infer E)[] ? E : T;

export interface Option<T> {
  /** Undefined for a switch. */
  readonly type: OptionType<ElementOf<NonNullable<T>>> | undefined;
  /** What stands for the value in a manual page, such as "BYTES". */
  readonly value: string;
  readonly help: string;
  /** Undefined, or false for a switch, if there is none. */
  readonly default: T;
  /** The program can't do without it; this says what is missing. */
  readonly required?: string;
  /** The name of another option of the table, beside which it can do without. */
  readonly unless?: string;
  /** It may be given several times: its value is a list, and `type` that of each. */
  readonly isList?: boolean;
  /** The heading below which `--help` has it. */
  readonly group?: string;
}

/** By name as programs have it: "blockSize" is --block-size on a command line. */
export type OptionTable = Readonly<Record<string, Option<unknown>>>;

export type ValuesOf<T extends OptionTable> = {
  readonly [K in keyof T]: T[K] extends Option<infer V> ? V : never;
};

interface Spec<T> {
  readonly type: OptionType<T>;
  readonly value: string;
  readonly help: string;
}

/** An option that may be left out, or has a default, or is required. */
export function option<T>(spec: Spec<T> & { default: NoInfer<T> }): Option<T>;
export function option<T>(spec: Spec<T> & { required: string; unless?: string }): Option<T>;
export function option<T>(spec: Spec<T>): Option<T | undefined>;
export function option<T>(spec: Spec<T>): Option<T | undefined> {
  return { default: undefined, ...spec } as Option<T | undefined>;
}

/** An option that may be given several times. */
export function optionList<T>(spec: Spec<T> & { required?: string }): Option<readonly T[]> {
  return { default: [], isList: true, ...spec } as unknown as Option<readonly T[]>;
}

/** An option without a value. */
export function toggle(help: string): Option<boolean> {
  return { type: undefined, value: "", help, default: false };
}

/** What holds where nothing is given. */
export function defaultsOf<T extends OptionTable>(table: T): ValuesOf<T> {
  const entries = Object.entries(table).map(([name, each]) => [name, each.default]);
  return Object.fromEntries(entries) as ValuesOf<T>;
}

/** The same options, below one heading. */
export function inGroup<T extends OptionTable>(group: string, options: T): T {
  const entries = Object.entries(options).map(([name, each]) => [name, { ...each, group }]);
  return Object.fromEntries(entries) as T;
}

/** "block-size" for "blockSize". */
export function hyphenated(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** "--block-size" */
export function flagOf(name: string): string {
  return `--${hyphenated(name)}`;
}

/** Throws StartError for a value that a program has given and that an option does not take. `name`: as the program has it. */
export function checkValue({ type }: Option<unknown>, value: unknown, name: string): void {
  const isTaken = type === undefined ? typeof value === "boolean" : type.accepts(value);
  if (!isTaken) throw new StartError(`${name} is ${value}; give ${type?.takes ?? "true or false"}`);
}
