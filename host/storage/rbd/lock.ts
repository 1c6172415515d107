// One writer at a time, and nothing of a dead one's behind it: the exclusive lock of an image (docs/ceph.md).
import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf } from "../../errors.ts";
import { EACCES, EBUSY, ENOENT, EPERM, EROFS } from "../../linux/errno.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import type { Cluster } from "./cluster.ts";
import type { OwnerRecord, OwnerState } from "./owner-record.ts";
import { wrong } from "./uri.ts";

export interface LockWish {
  readonly uri: string;
  readonly lockTimeoutMs: number;
  readonly stopping: AbortSignal;
}

/** One that was told to end needs a moment. */
const PATIENCE_MS = 700;
const RETRY_MS = 250;
/** The cluster counts a client as gone osd_client_watch_timeout (30 s) after it was last heard of; and then acts. */
const WATCH_GRACE_MS = 5000;
/** rbd_lock_acquire itself may wait for a watch to expire. */
const ACQUIRE_MS = 60_000;

interface Holder {
  readonly address: string;
  readonly state: OwnerState;
  readonly pid?: number;
}

/**
 * Takes the lock, so that other clients' requests for it are refused from here on. What a killed predecessor has sent may still be under
 * way in the cluster: whoever takes its lock puts its address on the cluster's blocklist first, after which no OSD that serves us takes
 * anything of it. So nothing may be written, nor done again, before this has resolved. Rejects with a StartError.
 */
export async function takeLock(
  image: RbdImage,
  cluster: Cluster,
  record: OwnerRecord,
  wish: LockWish,
  log: Log,
): Promise<void> {
  for (;;) {
    await untilFree(image, cluster, record, wish, log);
    const taking = image.acquireLock();
    const result = await cluster.answer(taking, wish.stopping, ACQUIRE_MS);
    if (result >= 0) break;
    // Somebody was faster: it is waited for as any other.
    if (result !== -EROFS) throw wrong(wish.uri, `its lock can't be taken: ${whyNot(result)}`);
  }
  const owner = await cluster.answer(image.lockOwner(), wish.stopping);
  if (typeof owner === "string" && record.write(owner)) return;
  log.info(
    { file: wish.uri },
    "there is no place to record who has the lock: a successor of this process waits 30 s if it is killed",
  );
}

/**
 * Resolves when nobody that may live has the lock. A client that took it by itself, as QEMU and rbd(8) do, would hand it over to whoever
 * asks, and have its own writes refused from then on: so nobody that the cluster still hears of is asked.
 */
async function untilFree(
  image: RbdImage,
  cluster: Cluster,
  record: OwnerRecord,
  { uri, lockTimeoutMs, stopping }: LockWish,
  log: Log,
): Promise<void> {
  const startMs = performance.now();
  for (let isTold = false; ; ) {
    const holder = await holderOf(image, cluster, record, uri, stopping);
    if (holder === undefined) return;
    if (holder.state === "gone") await fence(image, cluster, holder, { uri, stopping }, log);
    else {
      const isHeard = (await cluster.answer(image.watchers(), stopping)).includes(holder.address);
      if (!isHeard && holder.state === "unknown") return;
      const waitedMs = performance.now() - startMs;
      if (waitedMs > PATIENCE_MS) {
        if (holder.state === "lives")
          throw wrong(uri, `process ${holder.pid} has it; it can be served when that has ended`);
        if (waitedMs > lockTimeoutMs + WATCH_GRACE_MS) throw wrong(uri, held(holder));
        if (!isTold)
          log.info({ file: uri, owner: holder.address, forSeconds: lockTimeoutMs / 1000 }, WAITING);
        isTold = true;
      }
      await sleep(RETRY_MS, undefined, { signal: stopping });
    }
  }
}

const WAITING = "waiting for the lock of the image, which another client has, or has left behind";

function held({ address }: Holder): string {
  const ways = `end that first, or see rbd status; ${choice("readOnly")} serves it beside that, and a snapshot shows what doesn't change`;
  return `the client ${address} has its lock and is still there; ${ways}`;
}

async function holderOf(
  image: RbdImage,
  cluster: Cluster,
  record: OwnerRecord,
  uri: string,
  stopping: AbortSignal,
): Promise<Holder | undefined> {
  const address = await cluster.answer(image.lockOwner(), stopping);
  if (typeof address === "number")
    throw wrong(uri, `nobody says who has its lock: ${reasonOf({ errno: address })}`);
  return address === undefined ? undefined : { address, ...record.stateOf(address) };
}

/** Of a process of this host that has ended without closing the image. */
async function fence(
  image: RbdImage,
  cluster: Cluster,
  { address }: Holder,
  { uri, stopping }: Pick<LockWish, "uri" | "stopping">,
  log: Log,
): Promise<void> {
  const result = await cluster.answer(image.breakLock(address), stopping);
  // Somebody else was faster; who has it now is looked at anew.
  if (result < 0 && result !== -ENOENT && result !== -EBUSY)
    throw wrong(uri, `the lock of a process that was killed can't be broken: ${whyNot(result)}`);
  if (result < 0) return;
  log.info(
    { file: uri, owner: address },
    "the lock of a process that was killed is broken, and what it has sent is fenced off",
  );
}

function whyNot(result: number): string {
  const isRefused = result === -EPERM || result === -EACCES;
  const reason = reasonOf({ errno: result });
  return isRefused ? `${reason}; the blocklist is part of the caps mon 'profile rbd'` : reason;
}
