// What a process takes of the machine, looked at again and again: whether that stays the same.
import type { Vringd } from "./vringd.ts";

export interface Sample {
  /** Since our own start. */
  seconds: number;
  rssMiB: number;
  /** Its share of what it has in common with others. */
  pssMiB: number;
  fds: number;
  mappings: number;
  /** No front-end was there. */
  isIdle: boolean;
}

/** The samples of one process, from its start to its end. */
export interface Incarnation {
  pid: number;
  samples: Sample[];
}

export interface Growth {
  rssMiB: number;
  fds: number;
  mappings: number;
}

/** Fewer say nothing of a trend. */
const SAMPLES_MIN = 20;

export class ProcessSamples {
  readonly incarnations: Incarnation[] = [];

  constructor(private readonly daemon: Vringd) {
    this.beginNext();
  }

  /** The daemon is another process now. */
  beginNext(): void {
    this.incarnations.push({ pid: this.daemon.pid, samples: [] });
  }

  /** Nothing, if the process is just ending. */
  take(isIdle: boolean): void {
    const { daemon } = this;
    const current = this.incarnations.at(-1)!;
    if (daemon.hasEnded || daemon.pid !== current.pid) return;
    try {
      current.samples.push({
        seconds: performance.now() / 1000,
        rssMiB: daemon.memoryKiB("VmRSS") / 1024,
        pssMiB: Number(/^Pss:\s+(\d+)/m.exec(daemon.proc("smaps_rollup"))?.[1]) / 1024,
        fds: daemon.procEntries("fd").length,
        mappings: daemon.proc("maps").split("\n").length,
        isIdle,
      });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "ESRCH") throw error;
    }
  }

  /**
   * How much the longest-lived process grew, from the second quarter of its idle samples to the last; undefined if there
   * are too few. The lowest of each quarter counts, since garbage comes and goes. The first is for compilers and caches.
   */
  growth(): Growth | undefined {
    const idle = this.incarnations.map(({ samples }) => samples.filter((sample) => sample.isIdle));
    const longest = idle.reduce((a, b) => (b.length > a.length ? b : a), []);
    if (longest.length < SAMPLES_MIN) return undefined;
    const quarter = Math.floor(longest.length / 4);
    const early = longest.slice(quarter, 2 * quarter);
    const late = longest.slice(-quarter);
    const grown = (field: keyof Growth) => lowestOf(late, field) - lowestOf(early, field);
    return { rssMiB: grown("rssMiB"), fds: grown("fds"), mappings: grown("mappings") };
  }
}

function lowestOf(samples: readonly Sample[], field: keyof Growth): number {
  return Math.min(...samples.map((sample) => sample[field]));
}
