// Which devices are shown, and in which order. Pure.
import type { Rate } from "./rates.ts";
import type { Look } from "./watch.ts";

export interface Arrangement {
  /** Index in SORTS. */
  sort: number;
  isReversed: boolean;
  /** Part of a name, in whatever case. Empty: all. */
  filter: string;
  /** The socket of the one device that is shown alone. */
  only: string | undefined;
}

type Value = (look: Look) => number | null | undefined;

/** By what devices are sorted: by name, or by a number, the largest first. */
export const SORTS: readonly { title: string; value?: Value }[] = [
  { title: "DEVICE" },
  { title: "IOPS", value: ofAll(({ requests }) => requests) },
  { title: "MiB/s", value: ofAll(({ bytes }) => bytes) },
  { title: "P50", value: ofAll(({ p50Ns }) => p50Ns) },
  { title: "P99", value: ofAll(({ p99Ns }) => p99Ns) },
  { title: "FLIGHT", value: ({ rates }) => rates?.[0]?.inFlight },
  { title: "FAILED/s", value: ({ rates }) => rates?.[0]?.failures },
];

export function arrange(
  looks: readonly Look[],
  { sort, isReversed, filter, only }: Arrangement,
): readonly Look[] {
  if (only !== undefined) return looks.filter(({ socket }) => socket === only);
  const wanted = filter.toLowerCase();
  const shown = looks.filter(({ device }) => device.toLowerCase().includes(wanted));
  const { value } = SORTS[sort]!;
  const sign = isReversed ? -1 : 1;
  if (value === undefined) return isReversed ? shown.reverse() : shown;
  const known = shown.filter((look) => typeof value(look) === "number");
  const unknown = shown.filter((look) => typeof value(look) !== "number");
  return [...known.sort((a, b) => sign * (value(b)! - value(a)!)), ...unknown];
}

function ofAll(value: (rate: Rate) => number | null): Value {
  return ({ rates }) => rates && value(rates[0]!.all);
}
