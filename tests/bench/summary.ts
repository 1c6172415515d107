// A cell's figures as medians, and who was best among those to compare with.
import { OURS } from "./back-ends.ts";
import { type CellResult, FIO } from "./cell-run.ts";
import type { Sample } from "./contender.ts";
import { RBD_BENCH } from "./rbd.ts";
import { type Spread, spreadOf } from "./statistics.ts";

export type Metric = Exclude<keyof Sample, "frontEndShare" | "failures">;

/** Whom to compare with: the best of the other back-ends in this metric, whichever that is, or fio. */
export type Rival = "peer" | typeof FIO;

export function metricOf(samples: readonly Sample[], metric: Metric): Spread {
  return spreadOf(samples.map((sample) => sample[metric]));
}

/** Names of the back-ends in a cell that are not vringd. */
function peersOf({ samples }: CellResult): string[] {
  return Object.keys(samples).filter((name) => name !== FIO && name !== RBD_BENCH && !name.startsWith(OURS));
}

function bestOf(result: CellResult, names: readonly string[], metric: Metric): number | undefined {
  const medians = names.map((name) => metricOf(result.samples[name]!, metric).median);
  if (medians.length === 0) return undefined;
  return metric === "iops" ? Math.max(...medians) : Math.min(...medians);
}

/** vringd's median by that of the rival; undefined where either took no part. */
export function ratio(result: CellResult, ours: string, metric: Metric, rival: Rival): number | undefined {
  const samples = result.samples[ours];
  const names = rival === FIO ? Object.keys(result.samples).filter((name) => name === FIO) : peersOf(result);
  const best = bestOf(result, names, metric);
  if (samples === undefined || best === undefined) return undefined;
  return metricOf(samples, metric).median / best;
}

/** What the front-end had of its core, at the median; 1 where it sleeps. */
export function frontEndShare({ cell, samples }: CellResult): number {
  if (cell.manner === "sleep") return 1;
  return spreadOf(Object.values(samples).flatMap((list) => list.map((sample) => sample.frontEndShare)))
    .median;
}
