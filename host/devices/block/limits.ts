// How much a disk may do in a second, by the names and rules that QEMU has for it: averages, bursts above them, and how long those last.
import { choice } from "../../process/choices.ts";

/** In the order of the core's buckets (assembly/abi/limits.ts). */
export const LIMITED = ["bpsTotal", "bpsRead", "bpsWrite", "iopsTotal", "iopsRead", "iopsWrite"] as const;

type Limited = (typeof LIMITED)[number];

export type LimitName = Limited | `${Limited}Max` | `${Limited}MaxLength` | "iopsSize";

/** Those that are set. */
export type LimitValues = { readonly [K in LimitName]?: number | undefined };

export const LIMIT_NAMES: readonly LimitName[] = [
  ...LIMITED.flatMap((name): LimitName[] => [name, `${name}Max`, `${name}MaxLength`]),
  "iopsSize",
];

/** As much as QEMU takes. */
export const LIMIT_MAX = 1e15;
export const MAX_LENGTH_MAX = 3600;
export const IOPS_SIZE_MAX = 0xffffffff;

/** What the core goes by. Times are in nanoseconds. */
export interface Bucket {
  /** Of a byte or a request; 0: there is no limit. */
  readonly price: number;
  /** So much may be owed. */
  readonly room: number;
  readonly burstPrice: number;
  readonly burstRoom: number;
}

export const NO_BUCKET: Bucket = { price: 0, room: 0, burstPrice: 0, burstRoom: 0 };

const NS = 1e9;
/** A limit without a burst lets so much of a second come at once, and so does a burst of its own rate. */
const AT_ONCE_S = 0.1;

/** In the order of LIMITED. */
export function bucketsOf(values: LimitValues): readonly Bucket[] {
  return LIMITED.map((name) => {
    const average = values[name] ?? 0;
    if (average === 0) return NO_BUCKET;
    const price = NS / average;
    const max = values[`${name}Max`] ?? 0;
    if (max === 0) return { ...NO_BUCKET, price, room: NS * AT_ONCE_S };
    const lengthS = values[`${name}MaxLength`] ?? 1;
    return { price, room: max * lengthS * price, burstPrice: NS / max, burstRoom: NS * AT_ONCE_S };
  });
}

/** The limits among other values. */
export function limitsAmong(values: LimitValues): LimitValues {
  return Object.fromEntries(LIMIT_NAMES.map((name) => [name, values[name]]));
}

/** What is wrong with them, in a sentence with marks for the names; undefined if nothing is. */
export function faultOf(values: LimitValues): string | undefined {
  for (const kind of ["bps", "iops"] as const) {
    for (const suffix of ["", "Max"] as const) {
      const total: LimitName = `${kind}Total${suffix}`;
      const other = ([`${kind}Read${suffix}`, `${kind}Write${suffix}`] as const).find((name) => values[name]);
      if (values[total] && other) return `${choice(total)} and ${choice(other)} exclude each other`;
    }
  }
  for (const name of LIMITED) {
    const fault = burstFault(values, name);
    if (fault !== undefined) return fault;
  }
  const hasRequests = LIMITED.some((name) => name.startsWith("iops") && values[name]);
  if (values.iopsSize && !hasRequests)
    return `${choice("iopsSize")} says how requests are counted, and needs a limit of them`;
  return undefined;
}

function burstFault(values: LimitValues, name: Limited): string | undefined {
  const average = values[name];
  const max = values[`${name}Max`];
  if (max && !average) return `${choice(`${name}Max`)} needs ${choice(name)}, to which a burst comes down`;
  if (max && average && max < average) return `${choice(`${name}Max`)} is below ${choice(name)}`;
  if (values[`${name}MaxLength`] && !max)
    return `${choice(`${name}MaxLength`)} needs ${choice(`${name}Max`)}, whose length it is`;
  return undefined;
}

/** "iops-total-max" for "iopsTotalMax". */
export function limitWord(name: LimitName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Those that are set, by the names that operators have for them. */
export function limitWords(values: LimitValues): Record<string, number> {
  const set = LIMIT_NAMES.filter((name) => values[name]);
  return Object.fromEntries(set.map((name) => [limitWord(name), values[name]!]));
}
