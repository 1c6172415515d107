// Measures one cell: all back-ends are started side by side and have their rounds in turns, so that whatever else the
// machine does hits them alike.

import type { RingDriver } from "../../host/front-end/load/ring-driver.ts";
import type { BackEnd } from "./back-ends.ts";
import { Contender, type Sample } from "./contender.ts";
import { runFio } from "./fio.ts";
import type { Cell } from "./grid.ts";
import type { Images } from "./images.ts";
import type { SharedNbdServer } from "./nbd.ts";
import { RBD_BENCH, type SharedCephCluster } from "./rbd.ts";

export const FIO = "fio";

export interface CellResult {
  cell: Cell;
  /** By back-end, or "fio"; round by round. */
  samples: Record<string, Sample[]>;
  /** System calls for each request, by back-end. */
  syscalls: Record<string, number>;
  /** Who could not take part, and why. */
  leftOut: Record<string, string>;
}

export interface Bench {
  driver: RingDriver;
  images: Images;
  nbd: SharedNbdServer;
  ceph: SharedCephCluster;
  rounds: number;
  seconds: number;
  /** What back-ends are bound to; empty: nothing. */
  cores: readonly number[];
  hasFio: boolean;
  syscallTool: "perf" | "strace" | undefined;
  progress(text: string): void;
}

export async function measureCell(
  bench: Bench,
  backEnds: readonly BackEnd[],
  cell: Cell,
): Promise<CellResult> {
  const contenders: Contender[] = [];
  const leftOut: Record<string, string> = {};
  const entrants = backEnds.filter(
    ({ backing, isSlow }) => backing === cell.backing && (!isSlow || cell.withSlow),
  );
  const names = entrants.filter((backEnd) => backEnd.whyNot(cell) === undefined).map(({ name }) => name);
  if (cell.backing === "file") bench.images.make(cell.place, cell.withFio ? [...names, FIO] : names);
  try {
    for (const backEnd of entrants) {
      const reason = await enter(bench, backEnd, cell, contenders);
      if (reason !== undefined) leftOut[backEnd.name] = reason;
    }
    const samples = await measureInTurns(bench, contenders, cell);
    const syscalls = cell.withSyscalls ? await countAll(bench, contenders) : {};
    return { cell, samples, syscalls, leftOut };
  } finally {
    for (const contender of contenders) await contender.stop();
  }
}

/** Starts a back-end, unless it can't take part. A cell without one is better than none. */
async function enter(
  bench: Bench,
  backEnd: BackEnd,
  cell: Cell,
  contenders: Contender[],
): Promise<string | undefined> {
  const reason = backEnd.whyNot(cell);
  if (reason !== undefined) return reason;
  bench.progress(`starting ${backEnd.name}`);
  try {
    const { driver, images, nbd, ceph, cores } = bench;
    contenders.push(await Contender.start(driver, backEnd, cell, images, nbd, ceph, cores));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

async function measureInTurns(
  bench: Bench,
  contenders: readonly Contender[],
  cell: Cell,
): Promise<Record<string, Sample[]>> {
  const samples: Record<string, Sample[]> = {};
  const keep = (round: number, name: string, sample: Sample) => {
    samples[name] ??= [];
    // The first round warms up.
    if (round > 0) samples[name].push(sample);
  };
  for (let round = 0; round <= bench.rounds; round++) {
    for (const contender of contenders) {
      bench.progress(`round ${round} of ${bench.rounds}: ${contender.name}`);
      // A round blocks this thread: signals are heard in between.
      await new Promise(setImmediate);
      keep(round, contender.name, contender.measure(bench.seconds));
    }
    if (cell.backing === "rbd" && contenders.length > 0) {
      bench.progress(`round ${round} of ${bench.rounds}: ${RBD_BENCH}`);
      const sample = await bench.ceph.bench(cell, bench.seconds);
      if (sample !== undefined) keep(round, RBD_BENCH, sample);
    }
    if (!cell.withFio || !bench.hasFio) continue;
    const image = bench.images.image(cell.place, FIO);
    keep(round, FIO, await runFio(cell, image, bench.seconds, bench.cores));
  }
  return samples;
}

async function countAll(bench: Bench, contenders: readonly Contender[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  if (bench.syscallTool === undefined) return counts;
  for (const contender of contenders) {
    bench.progress(`system calls of ${contender.name}`);
    const count = await contender.syscalls(bench.syscallTool, bench.seconds / 2).catch(() => undefined);
    // A tool that works may still not be allowed to look at other processes.
    if (count !== undefined && Number.isFinite(count)) counts[contender.name] = count;
  }
  return counts;
}
