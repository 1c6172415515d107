// Whether an RBD image can be served: its cluster, the user's rights, the image. Nothing is changed or locked, and none of the guest's
// data is read.

import { optionFor } from "../../command-line/option-name.ts";
import { STATUS_FAILED } from "../../command-line/program.ts";
import { StartError } from "../../errors.ts";
import { EACCES, EPERM } from "../../linux/errno.ts";
import { exitNow } from "../../linux/libc.ts";
import { RBD_FEATURE_EXCLUSIVE_LOCK, type RbdImage } from "../../linux/librbd.ts";
import { CAPS, Cluster } from "../../storage/rbd/cluster.ts";
import { checkSettings, factsOf, openImage } from "../../storage/rbd/image.ts";
import { parseRbdUri, type RbdTarget, specOf } from "../../storage/rbd/uri.ts";
import { formatBytes } from "../units.ts";
import { type Finding, ok, problem } from "./finding.ts";

/**
 * What the caps of profile rbd allow as the address of a client, and what is the address of none: the monitors refuse it for the one
 * reason or the other, and nothing is blocked.
 */
const NOBODY = "doctor/0";
/** Enough to print what was found. */
const EXIT_MS = 500;

export async function rbdFindings(uri: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  let cluster: Cluster | undefined;
  try {
    const target = parseRbdUri(uri);
    cluster = await Cluster.connect(target);
    findings.push(ok("cluster", `${cluster.rados.fsid} answers, and has a pool ${target.pool}`));
    findings.push(await fencing(cluster, target), ...(await imageFindings(cluster, target)));
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    findings.push(problem("image", error.told(optionFor), "correct that, or name another"));
  }
  if (cluster?.isSilent) endSoon();
  else await cluster?.close();
  return findings;
}

/** A call that doesn't come back would keep the process. */
function endSoon(): void {
  setTimeout(() => exitNow(STATUS_FAILED), EXIT_MS).unref();
}

/** Without it a successor can't fence off what a killed vringd has sent. */
async function fencing(cluster: Cluster, { user }: RbdTarget): Promise<Finding> {
  const command = { prefix: "osd blocklist", blocklistop: "add", addr: NOBODY };
  const result = await cluster.answer(cluster.rados.command(command));
  if (result !== -EACCES && result !== -EPERM)
    return ok("caps", `client.${user} may fence off a client that has died`);
  return problem("caps", `client.${user} may not put a client that has died on the blocklist`, CAPS);
}

async function imageFindings(cluster: Cluster, target: RbdTarget): Promise<Finding[]> {
  const image = await openImage(target, cluster, true);
  try {
    const { byteLength, objectSize } = await factsOf(image, target, cluster);
    const size = `${specOf(target)}: ${formatBytes(Number(byteLength))} in objects of ${formatBytes(objectSize)}`;
    if (target.snapshot !== undefined) return [ok("image", `${size}, a snapshot: read-only`)];
    await checkSettings(image, target, cluster);
    return [ok("image", size), await lockFeature(image, target), await users(image)];
  } finally {
    if (!cluster.isSilent) await image.close();
  }
}

async function lockFeature(image: RbdImage, target: RbdTarget): Promise<Finding> {
  if (((await image.features()) & RBD_FEATURE_EXCLUSIVE_LOCK) !== 0n)
    return ok("features", "it has an exclusive lock: one writes at a time");
  const advice = `rbd feature enable ${specOf(target)} exclusive-lock`;
  return problem("features", "it has no exclusive lock, so two could write to it", advice);
}

/** Who only reads, as we do, is told nothing of the lock itself. */
async function users(image: RbdImage): Promise<Finding> {
  const addresses = await image.watchers();
  if (addresses.length === 0) return ok("lock", "nobody has it open for writing");
  const advice = "end that first, or share it with --read-only; one that was killed is forgotten after 30 s";
  return problem("lock", `the client ${addresses.join(" and ")} has it open for writing`, advice);
}
