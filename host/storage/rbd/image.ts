// Opens an RBD image, refuses what can't be served safely, and finds out what it is.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { reasonOf } from "../../errors.ts";
import { EACCES, ENOENT, EPERM, EROFS } from "../../linux/errno.ts";
import { poolMetadata, RBD_FEATURE_EXCLUSIVE_LOCK, RbdImage } from "../../linux/librbd.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import { SIGNATURE_BYTES } from "../file/format.ts";
import { checkRaw, type RawChoice } from "../file/raw-check.ts";
import { CAPS, Cluster, ENFORCED } from "./cluster.ts";
import { type RbdTarget, specOf, wrong } from "./uri.ts";

export interface ImageFacts {
  readonly byteLength: bigint;
  /** In bytes: what the cluster stores it in. */
  readonly objectSize: number;
  /** In bytes: librbd does nothing for discards of less. */
  readonly discardGranularity: number;
  /** What it is for as long as it exists. */
  readonly identity: readonly string[];
}

/** An offset in bytes must be a number that JavaScript holds exactly. */
const BYTES_MAX = 1n << 53n;
const DISCARD_GRANULARITY = { option: "rbd_discard_granularity_bytes", otherwise: 65_536 };
const OBJECT_SIZE_OTHERWISE = 4 << 20;

/** What `prepare` makes of it once it is open. Rejects with a StartError, or as that does, with nothing left open. */
export async function withImage<T>(
  target: RbdTarget,
  readOnly: boolean,
  stopping: AbortSignal,
  prepare: (image: RbdImage, cluster: Cluster) => Promise<T>,
): Promise<T> {
  const cluster = await Cluster.connect(target, stopping);
  let image: RbdImage | undefined;
  try {
    image = await openImage(target, cluster, readOnly, stopping);
    return await prepare(image, cluster);
  } catch (error) {
    if (!cluster.isSilent) await image?.close();
    if (!cluster.isSilent) await cluster.close();
    throw error;
  }
}

/** Rejects with a StartError, with nothing left open. */
export async function openImage(
  target: RbdTarget,
  cluster: Cluster,
  readOnly: boolean,
  stopping?: AbortSignal,
): Promise<RbdImage> {
  const { image: name, snapshot } = target;
  const opened = await cluster.answer(RbdImage.open(cluster.pool, name, snapshot, readOnly), stopping);
  if (typeof opened === "number") throw wrong(target.uri, whyNotOpened(target, opened));
  return opened;
}

/** Without this nothing keeps a second writer away, nor the writes of a dead one. Throws StartError. */
export async function checkLockable(
  image: RbdImage,
  target: RbdTarget,
  cluster: Cluster,
  stopping?: AbortSignal,
): Promise<void> {
  const features = await cluster.answer(image.features(), stopping);
  if ((features & RBD_FEATURE_EXCLUSIVE_LOCK) !== 0n) return;
  const remedy = `rbd feature enable ${specOf(target)} exclusive-lock`;
  throw wrong(
    target.uri,
    `it has no exclusive lock, so two could write to it: ${remedy}, or say ${choice("lock", "off")}`,
  );
}

/** What is set with the image or its pool goes before what a client says. Throws StartError. */
export async function checkSettings(
  image: RbdImage,
  target: RbdTarget,
  cluster: Cluster,
  stopping?: AbortSignal,
): Promise<void> {
  for (const [option, wanted] of Object.entries(ENFORCED)) {
    const own = await cluster.answer(image.metadata(`conf_${option}`), stopping);
    const pools = own ?? (await cluster.answer(poolMetadata(cluster.pool, `conf_${option}`), stopping));
    if (pools === undefined || isSame(pools, wanted)) continue;
    const where =
      own === undefined ? `rbd config pool rm ${target.pool}` : `rbd config image rm ${specOf(target)}`;
    throw wrong(
      target.uri,
      `${option} is ${pools} there, with which acknowledged writes could be lost or torn: ${where} ${option}`,
    );
  }
}

const SPELLINGS: Readonly<Record<string, readonly string[]>> = {
  false: ["false", "0", "no", "off"],
  true: ["true", "1", "yes", "on"],
};

function isSame(found: string, wanted: string): boolean {
  return (SPELLINGS[wanted] ?? [wanted]).includes(found.toLowerCase());
}

/** Rejects with a StartError for a size that no guest can be given. */
export async function factsOf(
  image: RbdImage,
  target: RbdTarget,
  cluster: Cluster,
  stopping?: AbortSignal,
): Promise<ImageFacts> {
  const byteLength = await cluster.answer(image.byteLength(), stopping);
  if (byteLength < 0n)
    throw wrong(target.uri, `its size is unknown: ${reasonOf({ errno: Number(byteLength) })}`);
  if (byteLength < SECTOR_SIZE)
    throw wrong(
      target.uri,
      `it has ${byteLength} bytes; give it a size first: rbd resize --size 10G ${specOf(target)}`,
    );
  if (byteLength > BYTES_MAX)
    throw wrong(target.uri, `it has ${byteLength} bytes, more than the ${BYTES_MAX} that can be served`);
  const objectSize = await cluster.answer(image.objectSize(), stopping);
  const { rados, pool } = cluster;
  const granularity = Number(rados.conf(DISCARD_GRANULARITY.option));
  return {
    byteLength,
    objectSize: isPowerOfTwo(objectSize) ? objectSize : OBJECT_SIZE_OTHERWISE,
    discardGranularity: isPowerOfTwo(granularity) ? granularity : DISCARD_GRANULARITY.otherwise,
    identity: identityOf(target, [rados.fsid, String(rados.poolId(pool)), target.namespace, image.id]),
  };
}

/** Rejects with a StartError for what holds another format than raw. */
export async function checkFormat(
  image: RbdImage,
  cluster: Cluster,
  { identity }: ImageFacts,
  byteLength: bigint,
  options: RawChoice,
  stopping: AbortSignal,
  log: Log,
): Promise<void> {
  const start = Buffer.alloc(Math.max(SIGNATURE_BYTES, SECTOR_SIZE));
  await cluster.answer(image.read(0n, start), stopping);
  checkRaw({ start, byteLength, identity: { parts: identity, bornNs: 0n } }, options, log);
}

function identityOf({ snapshot }: RbdTarget, parts: readonly string[]): readonly string[] {
  return ["rbd", ...parts, ...(snapshot === undefined ? [] : ["snapshot", snapshot])];
}

function isPowerOfTwo(bytes: number): boolean {
  return Number.isInteger(Math.log2(bytes)) && bytes >= SECTOR_SIZE;
}

function whyNotOpened(target: RbdTarget, result: number): string {
  const { pool, image, snapshot, namespace, user } = target;
  const where = namespace === "" ? `the pool ${pool}` : `the namespace ${namespace} of the pool ${pool}`;
  if (result === -ENOENT) {
    if (snapshot !== undefined)
      return `${where} has no image ${image} with a snapshot ${snapshot}; rbd snap ls lists them`;
    return `${where} has no image ${image}; make one: rbd create --size 10G ${specOf(target)}`;
  }
  if (result === -EPERM || result === -EACCES) return `client.${user} may not open it: ${CAPS}`;
  if (result === -EROFS) return `it can't be written to; ${choice("readOnly")} may serve it`;
  return `it can't be opened: ${reasonOf({ errno: result })}`;
}
