// One cell of the grid: all back-ends started side by side, measured in turns.
import { join } from "node:path";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { cpuTimeNs } from "../support/cpu-clock.ts";
import { Attachment } from "./attachment.ts";
import { BackEndProcess } from "./back-end-process.ts";
import type { BackEnd } from "./back-ends.ts";
import type { Images, Place } from "./images.ts";
import type { RingDriver } from "./ring-driver.ts";
import { type Manner, nowNs, Rounds } from "./round.ts";
import { percentile } from "./statistics.ts";

export interface Cell {
  pattern: Pattern;
  blockBytes: number;
  depth: number;
  queues: number;
  place: Place;
  direct: boolean;
  packed: boolean;
  indirect: boolean;
  segments: number;
  memoryBytes: number;
  manner: Manner;
}

/** Percent of reads, and whether blocks come in order. */
export const PATTERNS = {
  randread: [100, false],
  randwrite: [0, false],
  randrw: [70, false],
  read: [100, true],
  write: [0, true],
} as const;
export type Pattern = keyof typeof PATTERNS;

export interface Sample {
  iops: number;
  p50Us: number;
  p99Us: number;
  /** Processor time of the back-end's process for each request. */
  cpuUs: number;
  kicksPerRequest: number;
  failures: number;
}

export interface CellResult {
  cell: Cell;
  samples: Record<string, Sample[]>;
  /** Back-ends that were left out, with the reason. */
  leftOut: Record<string, string>;
}

export interface Schedule {
  rounds: number;
  seconds: number;
}

/** A back-end at work in a cell. */
class Contender {
  private readonly rounds: Rounds;

  private constructor(
    readonly name: string,
    private readonly process: BackEndProcess,
    private readonly attachment: Attachment,
    driver: RingDriver,
    cell: Cell,
  ) {
    const [readPercent, isSequential] = PATTERNS[cell.pattern];
    const blocks = Math.floor((attachment.capacity * SECTOR_SIZE) / cell.blockBytes);
    attachment.guest.setLoad({ readPercent, isSequential, blocks, seed: 1 });
    this.rounds = new Rounds(driver, attachment.guest, cell.manner);
  }

  static async start(
    driver: RingDriver,
    backEnd: BackEnd,
    cell: Cell,
    images: Images,
    cores: readonly number[],
  ): Promise<Contender> {
    const image = images.image(cell.place, backEnd.name);
    const socketPath = join(images.directory(cell.place), `${backEnd.name}.sock`);
    const command = backEnd.command({ ...cell, image, socketPath });
    const process = await BackEndProcess.start(command, socketPath, cores);
    try {
      const attachment = await Attachment.make(driver, socketPath, {
        ...cell,
        eventIdx: true,
        isChecked: false,
      });
      return new Contender(backEnd.name, process, attachment, driver, cell);
    } catch (error) {
      await process.stop();
      throw error;
    }
  }

  measure(seconds: number): Sample {
    const { guest } = this.attachment;
    guest.histogram.fill(0);
    const finishedBefore = guest.finished;
    const failuresBefore = guest.failures;
    const kicksBefore = this.rounds.kicks;
    const cpuBefore = cpuTimeNs(this.process.pid);
    const start = nowNs();
    this.rounds.runFor(seconds);
    const elapsed = (nowNs() - start) / 1e9;
    const cpu = cpuTimeNs(this.process.pid) - cpuBefore;
    const finished = guest.finished - finishedBefore;
    const histogram = guest.histogram.slice();
    this.rounds.finish();
    return {
      iops: finished / elapsed,
      p50Us: percentile(histogram, 50) / 1000,
      p99Us: percentile(histogram, 99) / 1000,
      cpuUs: cpu / 1000 / finished,
      kicksPerRequest: (this.rounds.kicks - kicksBefore) / finished,
      failures: guest.failures - failuresBefore,
    };
  }

  async stop(): Promise<void> {
    this.rounds.close();
    this.attachment.close();
    await this.process.stop();
  }
}

export async function measureCell(
  driver: RingDriver,
  backEnds: readonly BackEnd[],
  cell: Cell,
  images: Images,
  schedule: Schedule,
  cores: readonly number[],
): Promise<CellResult> {
  const contenders: Contender[] = [];
  const leftOut: Record<string, string> = {};
  const samples: Record<string, Sample[]> = {};
  try {
    for (const backEnd of backEnds) {
      const reason = backEnd.whyNot(cell);
      if (reason === undefined) contenders.push(await Contender.start(driver, backEnd, cell, images, cores));
      else leftOut[backEnd.name] = reason;
    }
    for (const { name } of contenders) samples[name] = [];
    // The first round warms up.
    for (let round = 0; round <= schedule.rounds; round++) {
      for (const contender of contenders) {
        const sample = contender.measure(schedule.seconds);
        if (round > 0) samples[contender.name]!.push(sample);
        // Lets sockets and signals have their turn.
        await new Promise(setImmediate);
      }
    }
  } finally {
    for (const contender of contenders) await contender.stop();
  }
  return { cell, samples, leftOut };
}
