// A snapshot of an RBD image that an overlay lies over: a disk that is an object, whose reads are librbd's.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import type { BlockDisk } from "../../engines/block-disk.ts";
import type { RbdTraffic } from "../../engines/rbd.ts";
import { reasonOf } from "../../errors.ts";
import { EIO } from "../../linux/errno.ts";
import { createEventfd, drainEventfd } from "../../linux/eventfd.ts";
import { addressOf, close, SystemError } from "../../linux/libc.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import { RbdAio } from "../../linux/rbd-aio.ts";
import { whenReadable } from "../../linux/readiness.ts";
import type { Log } from "../../process/log.ts";
import { lengthOf } from "../buffers.ts";
import type { RawChoice } from "../file/raw-check.ts";
import type { Cluster } from "./cluster.ts";
import { checkFormat, factsOf, withImage } from "./image.ts";
import { servedLength } from "./size.ts";
import { TrafficWatch } from "./traffic-watch.ts";
import { parseRbdUri, type RbdTarget, specOf, wrong } from "./uri.ts";

/** A read that is under way, with what librbd has the addresses of. */
interface PendingRead {
  readonly buffers: readonly Uint8Array[];
  readonly vectors: BigUint64Array;
  settle(result: number): void;
}

/** Numbers of reads: far more than can be under way. */
const NUMBERS = 2 ** 32;

export class RbdBase implements BlockDisk {
  readonly readOnly = true;
  private readonly eventfd = createEventfd();
  private readonly aio: RbdAio;
  private readonly completions: { stop(): void };
  private readonly traffic: RbdTraffic = { inFlight: 0, completed: 0, isFenced: false };
  private readonly watch: TrafficWatch;
  private readonly pending = new Map<number, PendingRead>();
  private lastNumber = 0;

  private constructor(
    private readonly image: RbdImage,
    private readonly cluster: Cluster,
    readonly byteLength: bigint,
    /** When the snapshot was taken: one that has its name later is another. */
    readonly changedNs: bigint,
    uri: string,
    log: Log,
  ) {
    this.aio = new RbdAio(image, this.eventfd);
    this.completions = whenReadable(this.eventfd, () => this.reap());
    this.watch = new TrafficWatch(this.traffic, uri, log);
  }

  /** Rejects with a StartError, with nothing left open. */
  static async open({ path, format }: RawChoice, stopping: AbortSignal, log: Log): Promise<RbdBase> {
    const target = parseRbdUri(path);
    const { uri, snapshot } = target;
    if (snapshot === undefined) throw wrong(uri, othersWrite(target));
    return withImage(target, true, stopping, async (image, cluster) => {
      const facts = await factsOf(image, target, cluster, stopping);
      const byteLength = servedLength(uri, facts.byteLength, SECTOR_SIZE, log);
      await checkFormat(image, cluster, facts, byteLength, { path, format, readOnly: true }, stopping, log);
      const found = await cluster.answer(image.snapshotFacts(snapshot), stopping);
      if (typeof found === "number")
        throw wrong(uri, `the snapshot's own time is unknown: ${reasonOf({ errno: found })}`);
      if (!found.isProtected)
        log.warn({ file: uri, remedy: `rbd snap protect ${specOf(target)}` }, UNPROTECTED);
      return new RbdBase(image, cluster, byteLength, found.takenNs, uri, log);
    });
  }

  read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    const vectors = new BigUint64Array(2 * buffers.length);
    for (const [i, buffer] of buffers.entries()) {
      vectors[2 * i] = BigInt(addressOf(buffer));
      vectors[2 * i + 1] = BigInt(buffer.length);
    }
    return new Promise((resolve, reject) => {
      const byteLength = lengthOf(buffers);
      const number = this.nextNumber();
      const settle = (result: number) => {
        if (result === byteLength) resolve();
        // A snapshot is as long as ever.
        else reject(new SystemError("rbd_aio_readv", result < 0 ? -result : EIO));
      };
      this.pending.set(number, { buffers, vectors, settle });
      this.traffic.inFlight++;
      const result = this.aio.readVectors(number, Number(offset), addressOf(vectors), buffers.length);
      if (result < 0) this.ended(number, result);
    });
  }

  async close(): Promise<void> {
    this.watch.end();
    this.completions.stop();
    close(this.eventfd);
    await this.image.close();
    await this.cluster.close();
  }

  private nextNumber(): number {
    do this.lastNumber = (this.lastNumber + 1) % NUMBERS;
    while (this.pending.has(this.lastNumber));
    return this.lastNumber;
  }

  private reap(): void {
    // Before the look: what completes behind it makes the descriptor readable again.
    drainEventfd(this.eventfd);
    this.aio.takeCompleted((number, result) => this.ended(number, result));
  }

  private ended(number: number, result: number): void {
    this.traffic.inFlight--;
    this.traffic.completed++;
    const read = this.pending.get(number)!;
    this.pending.delete(number);
    read.settle(result);
  }
}

function othersWrite(target: RbdTarget): string {
  const spec = `${specOf(target)}@NAME`;
  return `others may write to it, which an overlay's base must not see: take a snapshot (rbd snap create ${spec}), and give rbd:${spec}`;
}

const UNPROTECTED =
  "the snapshot beneath the overlay can be removed by anybody, and the disk with it: protect it";
