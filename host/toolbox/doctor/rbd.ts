// Whether an RBD image can be served: its cluster, the user's rights, the image. Nothing is changed or locked, and none of the guest's
// data is read.

import { optionFor } from "../../command-line/option-name.ts";
import { reasonOf, StartError } from "../../errors.ts";
import { EACCES, EPERM } from "../../linux/errno.ts";
import { RBD_FEATURE_EXCLUSIVE_LOCK, type RbdImage } from "../../linux/librbd.ts";
import { CAPS, Cluster } from "../../storage/rbd/cluster.ts";
import { checkSettings, factsOf, openImage } from "../../storage/rbd/image.ts";
import { parseRbdUri, type RbdTarget, specOf } from "../../storage/rbd/uri.ts";
import { formatBytes } from "../units.ts";
import { type Finding, note, ok, problem } from "./finding.ts";

/**
 * What the caps of profile rbd allow as the address of a client, and what is the address of none: the monitors refuse it for the one
 * reason or the other, and nothing is blocked.
 */
const NOBODY = "doctor/0";

const never = new AbortController().signal;

export async function rbdFindings(uri: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    const target = parseRbdUri(uri);
    const cluster = await Cluster.connect(target, never);
    findings.push(
      ok("cluster", `${cluster.rados.fsid} answers, and has a pool ${target.pool}`),
      await fencing(cluster, target),
    );
    findings.push(...(await imageFindings(cluster, target)));
    await cluster.close();
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    findings.push(problem("image", error.told(optionFor), "correct that, or name another"));
  }
  return findings;
}

/** Without it a successor can't fence off what a killed vringd has sent. */
async function fencing(cluster: Cluster, { user }: RbdTarget): Promise<Finding> {
  const command = { prefix: "osd blocklist", blocklistop: "add", addr: NOBODY };
  const result = await cluster.answer(cluster.rados.command(command), never);
  if (result !== -EACCES && result !== -EPERM)
    return ok("caps", `client.${user} may fence off a client that has died`);
  return problem("caps", `client.${user} may not put a client that has died on the blocklist`, CAPS);
}

async function imageFindings(cluster: Cluster, target: RbdTarget): Promise<Finding[]> {
  const image = await openImage(target, cluster, true, never);
  try {
    const { byteLength, objectSize } = await factsOf(image, target, cluster, never);
    const size = `${specOf(target)}: ${formatBytes(Number(byteLength))} in objects of ${formatBytes(objectSize)}`;
    if (target.snapshot !== undefined) return [ok("image", `${size}, a snapshot: read-only`)];
    await checkSettings(image, target, cluster, never);
    return [ok("image", size), await lockFeature(image, target), await lockOwner(image)];
  } finally {
    await image.close();
  }
}

async function lockFeature(image: RbdImage, target: RbdTarget): Promise<Finding> {
  if (((await image.features()) & RBD_FEATURE_EXCLUSIVE_LOCK) !== 0n)
    return ok("features", "it has an exclusive lock: one writes at a time");
  const advice = `rbd feature enable ${specOf(target)} exclusive-lock`;
  return problem("features", "it has no exclusive lock, so two could write to it", advice);
}

async function lockOwner(image: RbdImage): Promise<Finding> {
  const owner = await image.lockOwner();
  if (owner === undefined) return ok("lock", "nobody has it in use");
  if (typeof owner === "number")
    return note("lock", `who has it can't be told: ${reasonOf({ errno: owner })}`, CAPS);
  const advice = "end that first, or share it with --read-only; one that was killed loses it after 30 s";
  return problem("lock", `the client ${owner} has it, or had it when it was killed`, advice);
}
