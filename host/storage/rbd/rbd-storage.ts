// An image in a Ceph cluster, or a snapshot of it, as storage: opened, checked and locked, and then served by librbd.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { RBD_FD, RbdEngine, type RbdTraffic } from "../../engines/rbd.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import type { FileStorageOptions } from "../file/file-storage.ts";
import { serialFrom } from "../file/identity.ts";
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
import type { Cluster } from "./cluster.ts";
import { checkFormat, checkLockable, checkSettings, factsOf, type ImageFacts, withImage } from "./image.ts";
import { takeLock } from "./lock.ts";
import { OwnerRecord } from "./owner-record.ts";
import { servedLength, sizingOf } from "./size.ts";
import { TrafficWatch } from "./traffic-watch.ts";
import { parseRbdUri, type RbdTarget, wrong } from "./uri.ts";

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
  static async open(options: FileStorageOptions, stopping: AbortSignal, log: Log): Promise<RbdStorage> {
    const target = parseRbdUri(options.path);
    refuse(target, options);
    const readOnly = options.readOnly || target.snapshot !== undefined;
    return withImage(target, readOnly, stopping, (image, cluster) =>
      RbdStorage.prepare(target, cluster, image, { ...options, readOnly }, stopping, log),
    );
  }

  private static async prepare(
    target: RbdTarget,
    cluster: Cluster,
    image: RbdImage,
    options: FileStorageOptions,
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
    await checkFormat(image, cluster, found, facts.byteLength, options, stopping, log);
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

function refuse({ uri, snapshot }: RbdTarget, options: FileStorageOptions): void {
  const { direct } = options;
  const wanted = handoverWanted(options);
  if (direct) throw wrong(uri, `it is never in this host's page cache, so leave out ${choice("direct")}`);
  if (wanted !== undefined && snapshot === undefined)
    throw wrong(uri, `it can't go from one process to another; leave out ${choice(wanted)}`);
}

function storageFacts(
  { uri }: RbdTarget,
  image: ImageFacts,
  options: FileStorageOptions,
  log: Log,
): StorageFacts {
  const { blockSize = SECTOR_SIZE, readOnly, discard, rangeSegments, serial } = options;
  return {
    name: uri,
    byteLength: servedLength(uri, image.byteLength, blockSize, log),
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
