// A back-end at work in a cell: its process, a guest attached to it, and rounds of load.
import { join } from "node:path";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { Attachment } from "../../host/front-end/load/attachment.ts";
import { bucketsOf } from "../../host/front-end/load/histogram.ts";
import type { RingDriver } from "../../host/front-end/load/ring-driver.ts";
import { nowNs, Rounds } from "../../host/front-end/load/rounds.ts";
import { type Bucket, percentileNs } from "../../host/histogram.ts";
import { ownThreadTimeNs, processTimeNs } from "../support/cpu-clock.ts";
import { BackEndProcess } from "./back-end-process.ts";
import type { BackEnd } from "./back-ends.ts";
import { type Cell, PATTERNS, UNALIGNED } from "./grid.ts";
import type { Images } from "./images.ts";
import type { SharedNbdServer } from "./nbd.ts";
import type { SharedCephCluster } from "./rbd.ts";
import { countSyscalls } from "./syscall-counter.ts";

export interface Sample {
  iops: number;
  p50Us: number;
  p99Us: number;
  /** Processor time of the back-end's process, and kicks that it wanted, for each request. */
  cpuUs: number;
  kicks: number;
  /** The part of the time that the front-end's thread had a core: 1 on a quiet machine, if it polls. */
  frontEndShare: number;
  failures: number;
}

const SEED = 1;

export class Contender {
  private readonly rounds: Rounds;

  private constructor(
    readonly name: string,
    private readonly process: BackEndProcess,
    private readonly attachment: Attachment,
    driver: RingDriver,
    cell: Cell,
  ) {
    const blocks = Math.floor((attachment.capacity * SECTOR_SIZE) / cell.blockBytes);
    attachment.guest.setLoad({ ...PATTERNS[cell.pattern], blocks, seed: SEED });
    this.rounds = new Rounds(driver, attachment.guest, cell.manner);
  }

  get pid(): number {
    return this.process.pid;
  }

  static async start(
    driver: RingDriver,
    backEnd: BackEnd,
    cell: Cell,
    images: Images,
    nbd: SharedNbdServer,
    ceph: SharedCephCluster,
    cores: readonly number[],
  ): Promise<Contender> {
    const image = cell.backing === "file" ? images.image(cell.place, backEnd.name) : "";
    if (cell.backing === "nbd") await nbd.start();
    const socketPath = join(images.directory(cell.place), `${backEnd.name}.sock`);
    const { byteLength } = images;
    const command = backEnd.command({
      ...cell,
      image,
      byteLength,
      socketPath,
      nbdSocketPath: nbd.socketPath,
      ...(cell.backing === "rbd" && { rbd: await ceph.image(backEnd.name) }),
    });
    const process = await BackEndProcess.start(command, socketPath, cores);
    try {
      const unalignedEvery = UNALIGNED[cell.unaligned];
      const options = {
        ...cell,
        eventIdx: true,
        isChecked: false,
        ...(unalignedEvery !== undefined && { unalignedEvery }),
      };
      const attachment = await Attachment.make(driver, socketPath, options);
      return new Contender(backEnd.name, process, attachment, driver, cell);
    } catch (error) {
      await process.stop();
      throw error;
    }
  }

  /** Blocks the thread for so long. */
  measure(seconds: number): Sample {
    this.attachment.guest.resetLatencies();
    const before = this.reading();
    this.rounds.runFor(seconds);
    const after = this.reading();
    const latencies = bucketsOf(this.attachment.guest.latencies().all);
    this.rounds.finish();
    const requests = after.finished - before.finished;
    const elapsedNs = after.atNs - before.atNs;
    return {
      iops: (requests * 1e9) / elapsedNs,
      p50Us: percentileUs(latencies, 50),
      p99Us: percentileUs(latencies, 99),
      cpuUs: (after.backEndNs - before.backEndNs) / 1000 / requests,
      kicks: (after.kicks - before.kicks) / requests,
      frontEndShare: (after.frontEndNs - before.frontEndNs) / elapsedNs,
      failures: this.attachment.guest.failures - before.failures,
    };
  }

  private reading() {
    const { finished, failures } = this.attachment.guest;
    return {
      finished,
      failures,
      kicks: this.rounds.kicks,
      backEndNs: processTimeNs(this.pid),
      frontEndNs: ownThreadTimeNs(),
      atNs: nowNs(),
    };
  }

  /** For each request, in a round of its own. */
  async syscalls(tool: "perf" | "strace", seconds: number): Promise<number> {
    const { finished } = this.attachment.guest;
    const count = await countSyscalls(tool, this.pid, () => {
      this.rounds.runFor(seconds);
      this.rounds.finish();
    });
    return count / (this.attachment.guest.finished - finished);
  }

  async stop(): Promise<void> {
    this.rounds.close();
    this.attachment.close();
    await this.process.stop();
  }
}

function percentileUs(latencies: readonly Bucket[], percent: number): number {
  return (percentileNs(latencies, percent) ?? 0) / 1000;
}
