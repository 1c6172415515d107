// How far work on a disk has come: a bar on a terminal, and elsewhere a line now and then.
import { RewrittenLine } from "./rewritten-line.ts";
import { formatBytes } from "./units.ts";

const REWRITE_MS = 100;
const LINE_MS = 5000;
const BAR_MAX = 40;
/** "1000 bytes", so that the bar keeps its length. */
const RATE_WIDTH = 10;

export class Progress {
  private readonly line = new RewrittenLine();
  private readonly startMs = performance.now();
  private lastMs = this.startMs;

  /** `doing`: such as "committing". */
  constructor(private readonly doing: string) {}

  update(done: number, total: number): void {
    const now = performance.now();
    if (now - this.lastMs < (this.line.isShown ? REWRITE_MS : LINE_MS)) return;
    this.lastMs = now;
    const rate = (done * 1000) / (now - this.startMs);
    if (this.line.isShown) this.line.write(barLine(this.doing, done, total, rate, this.line.width));
    else process.stderr.write(`${this.doing}: ${amounts(done, total, rate)}\n`);
  }

  clear(): void {
    this.line.clear();
  }
}

/** The bar has what room the text leaves. */
export function barLine(doing: string, done: number, total: number, rate: number, width: number): string {
  const text = amounts(done, total, rate);
  const room = Math.min(BAR_MAX, width - doing.length - text.length - "  [] ".length);
  if (room < 4) return `${doing} ${text}`;
  const full = Math.floor((room * done) / total);
  return `${doing} [${"#".repeat(full)}${"-".repeat(room - full)}] ${text}`;
}

function amounts(done: number, total: number, rate: number): string {
  const percent = String(Math.floor((100 * done) / total)).padStart(3);
  return `${percent} % of ${formatBytes(total)}, ${formatBytes(rate).padStart(RATE_WIDTH)}/s`;
}
