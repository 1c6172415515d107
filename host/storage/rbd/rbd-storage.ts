// An image in a Ceph cluster, or a snapshot of it, as storage: opened, checked and locked, and then served by librbd.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { RBD_FD, RbdEngine, type RbdTraffic } from "../../engines/rbd.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import type { FileStorageOptions } from "../file/file-storage.ts";
import { serialFrom } from "../file/identity.ts";
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
import { FenceWatch } from "./fence-watch.ts";
import { checkFormat, checkLockable, checkSettings, factsOf, type ImageFacts, withImage } from "./image.ts";
import { RbdLock } from "./lock.ts";
import { OwnerRecord } from "./owner-record.ts";
import { RbdHandover } from "./rbd-handover.ts";
import { servedLength, sizingOf } from "./size.ts";
import { TrafficWatch } from "./traffic-watch.ts";
import { parseRbdUri, type RbdTarget, wrong } from "./uri.ts";

const FENCED =
  "another client has taken the image, and the cluster takes nothing from this one any more: all requests fail until the daemon is started anew";
/** A new process is another client to the cluster: to it goes the lock, where there is one. */
const ANEW: Inheritance = { kind: "anew" };

/** An image that was opened, and what is to be done with it. */
interface Opened {
  readonly image: RbdImage;
  readonly cluster: Cluster;
  readonly facts: StorageFacts;
  readonly sizing: Sizing | string;
  /** Where nothing else keeps other writers away. */
  readonly lock: RbdLock | undefined;
  readonly handover: RbdHandover | undefined;
}

export class RbdStorage implements Storage {
  readonly isLocal = true;
  readonly inheritance = ANEW;
  readonly copying = "is an image of a Ceph cluster: make a snapshot there (rbd snap create), and export it";
  private readonly traffic: RbdTraffic = { inFlight: 0, completed: 0, isFenced: false };
  private readonly trafficWatch: TrafficWatch;
  private readonly fenceWatch: FenceWatch;

  private constructor(
    private readonly opened: Opened,
    private readonly log: Log,
  ) {
    const { image, facts, lock } = opened;
    this.trafficWatch = new TrafficWatch(this.traffic, facts.name, log);
    this.fenceWatch = new FenceWatch(
      image,
      this.traffic,
      () => lock?.isHeld ?? false,
      () => this.fenced(),
    );
  }

  /** Rejects with a StartError, with nothing left open. */
  static async open(options: FileStorageOptions, stopping: AbortSignal, log: Log): Promise<RbdStorage> {
    const target = parseRbdUri(options.path);
    if (options.direct)
      throw wrong(target.uri, `it is never in this host's page cache, so leave out ${choice("direct")}`);
    const readOnly = options.readOnly || target.snapshot !== undefined;
    return withImage(target, readOnly, stopping, async (image, cluster) => {
      const wanted = { ...options, readOnly };
      return new RbdStorage(await prepare(target, image, cluster, wanted, stopping, log), log);
    });
  }

  get facts(): StorageFacts {
    return this.opened.facts;
  }

  get sizing(): Sizing | string {
    return this.opened.sizing;
  }

  get handover(): RbdHandover | undefined {
    return this.opened.handover;
  }

  get standing(): Standing {
    return { isFenced: this.traffic.isFenced, silentSeconds: this.trafficWatch.silentSeconds };
  }

  openEngines({ onFailure }: EnginesSetup): StorageEngines {
    const { image } = this.opened;
    const fenced = () => this.fenced();
    return enginesHere(RBD_FD, (worker) => new RbdEngine(worker, image, this.traffic, onFailure, fenced));
  }

  /** So that the cluster doesn't wait for this client where it tells all that have the image open of a change. */
  leave(): Promise<void> {
    return this.close();
  }

  async close(): Promise<void> {
    const { image, cluster, lock } = this.opened;
    this.trafficWatch.end();
    await this.fenceWatch.end();
    await image.unwatchUpdates();
    await image.close();
    lock?.forget();
    await cluster.close();
  }

  private fenced(): void {
    this.traffic.isFenced = true;
    this.log.error({ file: this.facts.name }, FENCED);
  }
}

/** Rejects with a StartError. */
async function prepare(
  target: RbdTarget,
  image: RbdImage,
  cluster: Cluster,
  options: FileStorageOptions,
  stopping: AbortSignal,
  log: Log,
): Promise<Opened> {
  const { readOnly, lockTimeoutMs, incoming } = options;
  const { uri, snapshot } = target;
  if (!readOnly) await checkSettings(image, target, cluster, stopping);
  const { identity } = await factsOf(image, target, cluster, stopping);
  let lock: RbdLock | undefined;
  if (!readOnly && options.lock === "auto") {
    await checkLockable(image, target, cluster, stopping);
    lock = new RbdLock(image, cluster, new OwnerRecord(identity), uri, log);
    if (!incoming) await lock.take(lockTimeoutMs, stopping);
  }
  // Its former owner may have changed it until then.
  const found = await factsOf(image, target, cluster, stopping);
  const facts = storageFacts(target, found, options, log);
  await checkFormat(image, cluster, found, facts.byteLength, options, stopping, log);
  const sizing = snapshot === undefined ? sizingOf(image, cluster, facts, identity, log) : SNAPSHOT;
  const handover = readOnly ? undefined : new RbdHandover(image, cluster, lock, options);
  return { image, cluster, facts, sizing, lock, handover };
}

const SNAPSHOT = "is a snapshot, whose size doesn't change";

function storageFacts(
  { uri }: RbdTarget,
  image: ImageFacts,
  options: FileStorageOptions,
  log: Log,
): StorageFacts {
  const { blockSize = SECTOR_SIZE, readOnly, discard, rangeSegments, serial } = options;
  return {
    name: uri,
    isPath: false,
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
