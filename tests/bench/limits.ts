// `npm run bench -- --grid limits`: how exact the limits of a disk are, over rates, sizes, kinds of requests and queues, and how evenly
// its queues share them.
import { Observed } from "../support/observed.ts";
import { toolbox } from "../support/toolbox.ts";
import { describeMachine } from "./machine.ts";

interface Row {
  /** As options have them. */
  limit: Readonly<Record<string, number>>;
  rw: string;
  bs: number;
  queues: number;
}

const ROWS: readonly Row[] = [
  ...[100, 1000, 10_000, 50_000].flatMap((rate): Row[] => [
    { limit: { "iops-total": rate }, rw: "randread", bs: 4096, queues: 1 },
    { limit: { "iops-total": rate }, rw: "randrw", bs: 512, queues: 4 },
  ]),
  ...[1e6, 20e6, 500e6].flatMap((rate): Row[] => [
    { limit: { "bps-total": rate }, rw: "randwrite", bs: 65_536, queues: 1 },
    { limit: { "bps-total": rate }, rw: "randread", bs: 1 << 20, queues: 4 },
  ]),
  {
    limit: { "iops-total": 500, "iops-total-max": 2000, "iops-total-max-length": 3 },
    rw: "randread",
    bs: 4096,
    queues: 1,
  },
];

const DISK_BYTES = 256 << 20;
/** What comes at once, and in a burst, is counted, too. */
const AT_ONCE_S = 0.1;

export async function measureLimits({ seconds }: { seconds: number }): Promise<void> {
  console.log(JSON.stringify(describeMachine()));
  for (const row of ROWS) console.log(await measure(row, Math.max(Math.round(seconds), 1)));
}

async function measure({ limit, rw, bs, queues }: Row, seconds: number): Promise<string> {
  const args = Object.entries(limit).map(([name, value]) => `--${name}=${value}`);
  await using observed = await Observed.start({ byteLength: DISK_BYTES, args });
  const load = [`--rw=${rw}`, `--bs=${bs}`, `--queues=${queues}`, "--iodepth=32", `--seconds=${seconds}`];
  const { stdout, stderr, status } = await toolbox([
    "bench",
    observed.daemon.socketPath,
    "--write",
    "--sleep",
    "--json",
    ...load,
  ]);
  if (status !== 0) throw new Error(stderr);
  const result = JSON.parse(stdout);
  const { requests } = result.all ?? result.reads ?? result.writes;
  const amount = "bps-total" in limit ? requests * bs : requests;
  const expected = allowed(limit, result.seconds);
  const off = ((amount / expected - 1) * 100).toFixed(2);
  return `${args.join(" ")} ${rw} ${bs} B, ${queues} queues: ${amount} of ${Math.round(expected)}, ${off} % off; ${await shares(observed)}`;
}

function allowed(limit: Readonly<Record<string, number>>, seconds: number): number {
  const [[name, average]] = Object.entries(limit) as [[string, number]];
  const max = limit[`${name}-max`];
  if (max === undefined) return average * (seconds + AT_ONCE_S);
  const room = max * (limit[`${name}-max-length`] ?? 1);
  return Math.min(average * seconds + room, max * (seconds + AT_ONCE_S));
}

/** What part of the requests each queue had. */
async function shares(observed: Observed): Promise<string> {
  const { queues } = await observed.get("/v1/stats");
  const counts: number[] = queues.map(
    ({ operations }: { operations: Record<string, { requests: number }> }) =>
      Object.values(operations).reduce((sum, { requests }) => sum + requests, 0),
  );
  const all = counts.reduce((sum, count) => sum + count, 0);
  return `shares ${counts
    .filter((count) => count > 0)
    .map((count) => `${Math.round((count / all) * 100)} %`)
    .join(", ")}`;
}
