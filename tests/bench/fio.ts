// fio's own io_uring engine on the bare file: what there is to reach without a virtqueue in between.
import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";
import type { Sample } from "./contender.ts";
import type { Cell } from "./grid.ts";

/** fio's default, one submission a system call, is slower than what a back-end does. */
const BATCH = 8;

export function fioVersion(): string | undefined {
  const { status, stdout } = spawnSync("fio", ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

export async function runFio(
  cell: Cell,
  image: string,
  seconds: number,
  cores: readonly number[],
): Promise<Sample> {
  const pin = cores.length > 0 ? ["taskset", "-c", cores.join(",")] : [];
  const [program, ...args] = [...pin, "fio", ...fioArgs(cell, image, seconds)];
  const { stdout } = await promisify(execFile)(program!, args, { maxBuffer: 64 << 20 });
  return sampleOf(JSON.parse(stdout).jobs[0]);
}

function fioArgs(cell: Cell, image: string, seconds: number): string[] {
  const batch = Math.min(BATCH, cell.depth);
  return [
    "--name=ceiling",
    `--filename=${image}`,
    "--ioengine=io_uring",
    `--rw=${cell.pattern}`,
    ...(cell.pattern === "randrw" ? ["--rwmixread=70"] : []),
    `--bs=${cell.blockBytes}`,
    `--iodepth=${cell.depth}`,
    `--iodepth_batch_submit=${batch}`,
    `--iodepth_batch_complete_max=${batch}`,
    `--direct=${cell.direct ? 1 : 0}`,
    "--norandommap",
    "--thread",
    "--time_based",
    `--runtime=${Math.round(seconds * 1000)}ms`,
    "--output-format=json",
  ];
}

interface FioDirection {
  iops: number;
  total_ios: number;
  clat_ns: { percentile?: Record<string, number> };
}

interface FioJob {
  read: FioDirection;
  write: FioDirection;
  usr_cpu: number;
  sys_cpu: number;
  job_runtime: number;
  error: number;
}

/** Latencies are those of the reads, if there are any. */
function sampleOf({ read, write, usr_cpu, sys_cpu, job_runtime, error }: FioJob): Sample {
  const percentiles = (read.total_ios > 0 ? read : write).clat_ns.percentile ?? {};
  const cpuUs = ((usr_cpu + sys_cpu) / 100) * job_runtime * 1000;
  return {
    iops: read.iops + write.iops,
    p50Us: (percentiles["50.000000"] ?? 0) / 1000,
    p99Us: (percentiles["99.000000"] ?? 0) / 1000,
    cpuUs: cpuUs / (read.total_ios + write.total_ios),
    kicks: 0,
    frontEndShare: 1,
    failures: error,
  };
}
