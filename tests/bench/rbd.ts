// The Ceph cluster that all back-ends of a run share, and Ceph's own measure beside them. Each has an image of its own.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { CephCluster } from "../support/ceph-cluster.ts";
import type { Sample } from "./contender.ts";
import { type Cell, PATTERNS } from "./grid.ts";

const exec = promisify(execFile);
export const RBD_BENCH = "rbd bench";

export class SharedCephCluster {
  private starting: Promise<CephCluster> | undefined;
  private readonly images = new Set<string>();

  constructor(
    private readonly byteLength: number,
    /** What the cluster's daemons are bound to; empty: nothing. */
    private readonly cores: readonly number[],
  ) {}

  /** Rejects where there is no Ceph. */
  async start(): Promise<CephCluster> {
    this.starting ??= CephCluster.start({ under: this.pin });
    return this.starting;
  }

  /** What its clients name: a full image, so that reads find objects. */
  async image(name: string): Promise<{ conf: string; image: string }> {
    const cluster = await this.start();
    const image = `rbd/${name.replaceAll(/[^\w.-]/g, "-")}`;
    if (!this.images.has(image)) {
      await cluster.rbd("create", "--size", `${this.byteLength}B`, image);
      const fill = ["bench", "--io-type", "write", "--io-size", "4M", "--io-threads", "4"];
      await cluster.rbd(...fill, "--io-total", String(this.byteLength), image);
      this.images.add(image);
    }
    return { conf: cluster.confPath, image };
  }

  /** A round of librbd alone, without rings; undefined for what `rbd bench` can't do. */
  async bench({ pattern, blockBytes, depth }: Cell, seconds: number): Promise<Sample | undefined> {
    const { readPercent, isSequential } = PATTERNS[pattern];
    if (readPercent !== 0 && readPercent !== 100) return undefined;
    const { conf, image } = await this.image(RBD_BENCH);
    const args = [
      ...[
        "bench",
        "--io-type",
        readPercent === 0 ? "write" : "read",
        "--io-pattern",
        isSequential ? "seq" : "rand",
      ],
      ...[
        "--io-size",
        String(blockBytes),
        "--io-threads",
        String(depth),
        "--io-total",
        "1T",
        "--rbd-cache=false",
      ],
    ];
    // It has no limit of time of its own, and says at each second how it goes.
    const options = { env: { ...process.env, CEPH_CONF: conf }, timeout: (seconds + 2) * 1000 };
    const [program, ...rest] = [...this.pin, "rbd", ...args, image];
    const running = exec(program!, rest, options).catch((error: { stdout: string }) => error);
    return sampleOf((await running).stdout);
  }

  private get pin(): string[] {
    return this.cores.length > 0 ? ["taskset", "-c", this.cores.join(",")] : [];
  }
}

/** Lines of seconds, operations until then and operations a second. */
export function sampleOf(text: string): Sample | undefined {
  const rates = [...text.matchAll(/^\s*\d+\s+\d+\s+([\d.]+)\s/gm)].map(([, rate]) => Number(rate));
  const iops = rates.at(-1);
  if (iops === undefined) return undefined;
  return {
    iops,
    p50Us: Number.NaN,
    p99Us: Number.NaN,
    cpuUs: Number.NaN,
    kicks: Number.NaN,
    frontEndShare: 1,
    failures: 0,
  };
}
