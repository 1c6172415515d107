// An image in a Ceph cluster, or a snapshot of it, as storage: opened, checked and locked, and then served by librbd.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { RBD_FD, RbdEngine, type RbdTraffic } from "../../engines/rbd.ts";
import { reasonOf, StartError } from "../../errors.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import type { FileStorageOptions } from "../file/file-storage.ts";
import { SIGNATURE_BYTES } from "../file/format.ts";
import { serialFrom } from "../file/identity.ts";
import { checkRaw } from "../file/raw-check.ts";
import { recordServedRaw } from "../file/raw-record.ts";
import { handoverWanted } from "../handover-wanted.ts";
import {
  type EnginesSetup,
  type Inheritance,
  RANGE_BYTES_MAX,
  type Sizing,
  type Standing,
  type Storage,
  type StorageEngines,
  type StorageFacts,
} from "../storage.ts";
import { enginesHere } from "../this-thread.ts";
import { Cluster } from "./cluster.ts";
import { checkLockable, checkSettings, factsOf, type ImageFacts, openImage } from "./image.ts";
import { takeLock } from "./lock.ts";
import { OwnerRecord } from "./owner-record.ts";
import { TrafficWatch } from "./traffic-watch.ts";
import { parseRbdUri, type RbdTarget, wrong } from "./uri.ts";

export interface RbdOptions extends FileStorageOptions {
  overlay?: string | undefined;
}

const FENCED =
  "another client has taken the image, and the cluster takes nothing from this one any more: all requests fail until the daemon is started anew";
/** A new process is another client to the cluster, to which the lock would have to go meanwhile. */
const NOT_YET: Inheritance = {
  kind: "none",
  why: "is an image of a Ceph cluster, whose lock does not go to another process",
};

export class RbdStorage implements Storage {
  readonly isLocal = true;
  readonly inheritance = NOT_YET;
  readonly copying = "is an image of a Ceph cluster: make a snapshot there (rbd snap create), and export it";
  readonly sizing: Sizing | string;
  private readonly traffic: RbdTraffic = { inFlight: 0, completed: 0, isFenced: false };
  private readonly watch: TrafficWatch;

  private constructor(
    readonly facts: StorageFacts,
    private readonly image: RbdImage,
    private readonly cluster: Cluster,
    /** Of the lock, if it is held. */
    private readonly owner: OwnerRecord | undefined,
    identity: readonly string[],
    isSnapshot: boolean,
    private readonly log: Log,
  ) {
    this.sizing = isSnapshot ? SNAPSHOT : sizingOf(image, cluster, facts, identity, log);
    this.watch = new TrafficWatch(this.traffic, facts.name, log);
  }

  /** Rejects with a StartError, with nothing left open. */
  static async open(options: RbdOptions, stopping: AbortSignal, log: Log): Promise<RbdStorage> {
    const target = parseRbdUri(options.path);
    refuse(target, options);
    const readOnly = options.readOnly || target.snapshot !== undefined;
    const cluster = await Cluster.connect(target, stopping);
    let image: RbdImage | undefined;
    try {
      image = await openImage(target, cluster, readOnly, stopping);
      return await RbdStorage.prepare(target, cluster, image, { ...options, readOnly }, stopping, log);
    } catch (error) {
      if (!cluster.isSilent) await image?.close();
      if (!cluster.isSilent) await cluster.close();
      throw error;
    }
  }

  private static async prepare(
    target: RbdTarget,
    cluster: Cluster,
    image: RbdImage,
    options: RbdOptions,
    stopping: AbortSignal,
    log: Log,
  ): Promise<RbdStorage> {
    const { readOnly, lockTimeoutMs } = options;
    const { uri } = target;
    let owner: OwnerRecord | undefined;
    if (!readOnly) await checkSettings(image, target, cluster, stopping);
    const before = await factsOf(image, target, cluster, stopping);
    if (!readOnly && options.lock === "auto") {
      await checkLockable(image, target, cluster, stopping);
      owner = new OwnerRecord(before.identity);
      await takeLock(image, cluster, owner, { uri, lockTimeoutMs, stopping }, log);
    }
    // Its former owner may have changed it until then.
    const found = await factsOf(image, target, cluster, stopping);
    const facts = storageFacts(target, found, options, log);
    const start = Buffer.alloc(Math.max(SIGNATURE_BYTES, SECTOR_SIZE));
    await cluster.answer(image.read(0n, start), stopping);
    checkRaw(
      { start, byteLength: facts.byteLength, identity: { parts: found.identity, bornNs: 0n } },
      options,
      log,
    );
    return new RbdStorage(facts, image, cluster, owner, found.identity, target.snapshot !== undefined, log);
  }

  get standing(): Standing {
    const { isFenced } = this.traffic;
    const lock = isFenced ? "fenced" : this.owner === undefined ? "none" : "held";
    return { lock, silentSeconds: this.watch.silentSeconds };
  }

  openEngines({ onFailure }: EnginesSetup): StorageEngines {
    const { image, traffic, log, facts } = this;
    const fenced = () => log.error({ file: facts.name }, FENCED);
    return enginesHere(RBD_FD, (worker) => new RbdEngine(worker, image, traffic, onFailure, fenced));
  }

  async close(): Promise<void> {
    this.watch.end();
    await this.image.unwatchUpdates();
    await this.image.close();
    if (!this.traffic.isFenced) this.owner?.remove();
    await this.cluster.close();
  }
}

const SNAPSHOT = "is a snapshot, whose size doesn't change";

function refuse({ uri, snapshot }: RbdTarget, options: RbdOptions): void {
  const { overlay, direct } = options;
  const wanted = handoverWanted(options);
  if (overlay !== undefined)
    throw wrong(
      uri,
      `an overlay can't lie over an image of Ceph's; a clone of a snapshot does the same: rbd clone`,
    );
  if (direct) throw wrong(uri, `it is never in this host's page cache, so leave out ${choice("direct")}`);
  if (wanted !== undefined && snapshot === undefined)
    throw wrong(uri, `it can't go from one process to another; leave out ${choice(wanted)}`);
}

function storageFacts(target: RbdTarget, image: ImageFacts, options: RbdOptions, log: Log): StorageFacts {
  const { uri } = target;
  const { blockSize = SECTOR_SIZE, readOnly, discard, rangeSegments, serial } = options;
  const byteLength = wholeBlocks(image.byteLength, blockSize);
  if (byteLength === 0n)
    throw new StartError(`${uri} has ${image.byteLength} bytes, less than one block of ${blockSize}`);
  const rest = Number(image.byteLength - byteLength);
  if (rest > 0) log.warn({ file: uri, bytes: rest }, "the image ends within a block, which is not served");
  return {
    name: uri,
    byteLength,
    blockSize,
    readOnly,
    discard,
    rangeSegments,
    rangeBytesMax: RANGE_BYTES_MAX,
    serial: serial ?? serialFrom(image.identity),
    direct: false,
    discardAlignment: Math.min(image.discardGranularity, image.objectSize),
    optimalBytes: image.objectSize,
  };
}

function wholeBlocks(byteLength: bigint, blockSize: number): bigint {
  return byteLength - (byteLength % BigInt(blockSize));
}

/** Anybody may resize it (`rbd resize`): the one who has its lock, us, does it then, and is told. */
function sizingOf(
  image: RbdImage,
  cluster: Cluster,
  facts: StorageFacts,
  parts: readonly string[],
  log: Log,
): Sizing {
  const measure = async () => wholeBlocks(await measured(image, cluster), facts.blockSize);
  return {
    measure,
    async onChange(changed) {
      const result = await image.watchUpdates(changed);
      if (result < 0) log.warn({ file: facts.name, reason: reasonOf({ errno: result }) }, UNTOLD);
    },
    taken() {
      // What is served raw is known by its size, too.
      if (facts.readOnly) return;
      const record = (byteLength: bigint) => recordServedRaw({ byteLength, identity: { parts, bornNs: 0n } });
      measure().then(record, () => {});
    },
  };
}

const UNTOLD = "the cluster does not tell of changes of the image";

/** Rejects with a RangeError. */
async function measured(image: RbdImage, cluster: Cluster): Promise<bigint> {
  const byteLength = await cluster.answer(image.byteLength()).catch((error) => {
    throw new RangeError((error as Error).message);
  });
  if (byteLength >= 0n) return byteLength;
  throw new RangeError(`the cluster does not tell its size: ${reasonOf({ errno: Number(byteLength) })}`);
}
