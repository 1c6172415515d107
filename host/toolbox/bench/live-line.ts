// How a load goes, on one line of the terminal.
import type { DrivenGuest } from "../../front-end/load/driven-guest.ts";
import { bucketsOf } from "../../front-end/load/histogram.ts";
import { type Bucket, percentileNs } from "../../histogram.ts";
import { RewrittenLine } from "../rewritten-line.ts";
import { formatBytes, formatCount, formatNs } from "../units.ts";

const EVERY_NS = 250e6;

export class LiveLine {
  private readonly line = new RewrittenLine();
  private lastNs = 0;
  private lastFinished = 0;

  constructor(
    private readonly guest: DrivenGuest,
    private readonly seconds: number,
    private readonly blockBytes: number,
  ) {}

  update(elapsedNs: number): void {
    if (!this.line.isShown || elapsedNs - this.lastNs < EVERY_NS) return;
    const { finished } = this.guest;
    const iops = ((finished - this.lastFinished) * 1e9) / (elapsedNs - this.lastNs);
    this.lastNs = elapsedNs;
    this.lastFinished = finished;
    const text = liveText(
      elapsedNs / 1e9,
      this.seconds,
      iops,
      iops * this.blockBytes,
      bucketsOf(this.guest.latencies().all),
    );
    this.line.write(text);
  }

  clear(): void {
    this.line.clear();
  }
}

/** The rate of just now, and the latencies of all so far. */
function liveText(
  elapsed: number,
  seconds: number,
  iops: number,
  bytesPerSecond: number,
  latencies: readonly Bucket[],
): string {
  const parts = [
    `${elapsed.toFixed(1)} of ${seconds} s`,
    `${formatCount(iops)} IOPS`,
    `${formatBytes(bytesPerSecond)}/s`,
    `p50 ${formatNs(percentileNs(latencies, 50))}`,
    `p99 ${formatNs(percentileNs(latencies, 99))}`,
  ];
  return parts
    .map((part) => part.padEnd(13))
    .join(" ")
    .trimEnd();
}
