// `npm run bench -- --grid limits`: how exact the limits of a disk are, over rates, sizes, kinds of requests and queues, and how evenly
// its queues share them; beside QEMU's.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isListening } from "../support/listening.ts";
import { Observed } from "../support/observed.ts";
import { StorageDaemon, storageDaemonVersion } from "../support/storage-daemon.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
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
  for (const row of ROWS)
    for (const line of await measure(row, Math.max(Math.round(seconds), 1))) console.log(line);
}

async function measure(row: Row, seconds: number): Promise<string[]> {
  const { limit, rw, bs, queues } = row;
  const title = `${Object.entries(limit)
    .map((entry) => entry.join("="))
    .join(" ")} ${rw} ${bs} B, ${queues} queues`;
  const lines = [`${title}: ${await measureOurs(row, seconds)}`];
  if (storageDaemonVersion() !== undefined)
    lines.push(`  throttle-group of qemu-storage-daemon: ${await measurePeer(row, seconds)}`);
  return lines;
}

async function measureOurs(row: Row, seconds: number): Promise<string> {
  const args = Object.entries(row.limit).map(([name, value]) => `--${name}=${value}`);
  await using observed = await Observed.start({ byteLength: DISK_BYTES, args });
  const result = await load(observed.daemon.socketPath, row, seconds);
  return `${result}; ${await shares(observed)}`;
}

async function measurePeer({ limit, ...row }: Row, seconds: number): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-bench-"));
  try {
    const image = join(directory, "image");
    writeFileSync(image, "");
    truncateSync(image, DISK_BYTES);
    const values = Object.entries(limit).map(([name, value]) => `x-${name}=${value}`);
    const socketPath = join(directory, "vhost");
    await using _daemon = StorageDaemon.start({
      socketPath,
      queues: row.queues,
      objects: [["throttle-group", "id=limits", ...values].join(",")],
      blockdev: `driver=throttle,throttle-group=limits,file.driver=file,file.filename=${image}`,
    });
    await until(() => isListening(socketPath), "qemu-storage-daemon listens");
    return await load(socketPath, { limit, ...row }, seconds);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function load(socketPath: string, { limit, rw, bs, queues }: Row, forSeconds: number): Promise<string> {
  const { stdout, stderr, status } = await toolbox([
    "bench",
    socketPath,
    "--write",
    "--sleep",
    "--json",
    ...[`--rw=${rw}`, `--bs=${bs}`, `--queues=${queues}`, "--iodepth=32", `--seconds=${forSeconds}`],
  ]);
  if (status !== 0) throw new Error(stderr);
  const result = JSON.parse(stdout);
  const { requests } = result.all ?? result.reads ?? result.writes;
  const amount = "bps-total" in limit ? requests * bs : requests;
  const expected = allowed(limit, result.seconds);
  const off = ((amount / expected - 1) * 100).toFixed(2);
  return `${amount} of ${Math.round(expected)}, ${off} % off`;
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
