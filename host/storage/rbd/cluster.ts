// A connection to a Ceph cluster, with a pool of it: configured as Ceph's clients are, but for what would break a promise to the guest.
import { reasonOf } from "../../errors.ts";
import { EACCES, ENOENT, EPERM, ETIMEDOUT } from "../../linux/errno.ts";
import { CephLibraryError, Rados } from "../../linux/librados.ts";
import { rbdCalls } from "../../linux/librbd.ts";
import { inTime } from "./patience.ts";
import { type RbdTarget, wrong } from "./uri.ts";

/**
 * Whatever the user has set. With librbd's cache, or one on an SSD of this host, writes that the guest was told of would
 * be lost with the process; and a guest may change a page while it is written, so that it can't be sent without a copy. And a lock that
 * is broken without the blocklist fences off nothing.
 */
export const ENFORCED: Readonly<Record<string, string>> = {
  rbd_cache: "false",
  rbd_persistent_cache_mode: "disabled",
  rbd_disable_zero_copy_writes: "true",
  rbd_blocklist_on_break_lock: "true",
};

/** Standard error is our log's. */
const QUIET: Readonly<Record<string, string>> = { log_to_stderr: "false", err_to_stderr: "false" };

/** In seconds: for who has not set it otherwise, since the cluster's own is 300. */
const MOUNT_TIMEOUT = { option: "client_mount_timeout", inherited: 300, ours: 15 };
/** Commands to monitors, which else wait for ever. */
const MON_TIMEOUT = { option: "rados_mon_op_timeout", inherited: 0, ours: 15 };
/** How much later than librados we give up ourselves. */
const GRACE_MS = 5000;

const NEVER = new AbortController().signal;

export class Cluster {
  /** A call has not come back: it uses what close() would take away, so that is left to the end of the process. */
  isSilent = false;

  private constructor(
    readonly rados: Rados,
    readonly pool: number,
    private readonly target: RbdTarget,
    /** How long the cluster may take for an answer while vringd starts. */
    readonly patienceMs: number,
  ) {}

  /** Rejects with a StartError: what is wrong, and what would help. */
  static async connect(target: RbdTarget, stopping: AbortSignal = NEVER): Promise<Cluster> {
    const rados = create(target);
    configure(rados, target);
    const seconds = Number(rados.conf(MOUNT_TIMEOUT.option)) || MOUNT_TIMEOUT.ours;
    const patienceMs = seconds * 1000 + GRACE_MS;
    const silence = () => noAnswer(rados, seconds);
    const result = await inTime(rados.connect(), patienceMs, stopping, () => wrong(target.uri, silence()));
    if (result < 0) {
      const why = result === -ETIMEDOUT ? silence() : whyNotConnected(rados, target, result);
      await rados.shutdown();
      throw wrong(target.uri, why);
    }
    const opening = rados.openPool(target.pool, target.namespace);
    const pool = await inTime(opening, patienceMs, stopping, () => wrong(target.uri, silence()));
    if (pool < 0) {
      await rados.shutdown();
      throw wrong(target.uri, whyNoPool(target, pool));
    }
    return new Cluster(rados, pool, target, patienceMs);
  }

  /** An answer that is waited for so long. Rejects with a StartError after that, and with an AbortError. */
  async answer<T>(call: Promise<T>, stopping: AbortSignal = NEVER, patienceMs = this.patienceMs): Promise<T> {
    const silence = `the cluster has not answered for ${patienceMs / 1000} s; ceph health says why`;
    try {
      return await inTime(call, patienceMs, stopping, () => wrong(this.target.uri, silence));
    } catch (error) {
      this.isSilent = true;
      throw error;
    }
  }

  /** Once, and not while it is silent. */
  async close(): Promise<void> {
    this.rados.closePool(this.pool);
    await this.rados.shutdown();
  }
}

function create({ uri, user }: RbdTarget): Rados {
  try {
    rbdCalls();
    return Rados.create(`client.${user}`);
  } catch (error) {
    if (error instanceof CephLibraryError) throw wrong(uri, `it takes a library of Ceph's: ${error.message}`);
    if (error instanceof RangeError) throw wrong(uri, `no user of Ceph's can be called ${user}`);
    throw error;
  }
}

function configure(rados: Rados, { uri, conf, keyring, monitors }: RbdTarget): void {
  const result = rados.readConf(conf);
  const name = conf ?? process.env.CEPH_CONF ?? "/etc/ceph/ceph.conf";
  if (result < 0 && (conf !== undefined || result !== -ENOENT))
    throw wrong(uri, `${name} can't be read: ${reasonOf({ errno: result })}`);
  if (monitors === undefined && !rados.conf("mon_host"))
    throw wrong(
      uri,
      `${name} names no monitor; give one, as in rbd:POOL/IMAGE?conf=PATH or ?mon_host=ADDRESS`,
    );
  if (monitors !== undefined) rados.setConf("mon_host", monitors);
  if (keyring !== undefined) rados.setConf("keyring", keyring);
  // What a release doesn't know yet it doesn't do either.
  for (const [option, value] of Object.entries({ ...QUIET, ...ENFORCED })) rados.setConf(option, value);
  for (const { option, inherited, ours } of [MOUNT_TIMEOUT, MON_TIMEOUT])
    if (Number(rados.conf(option)) === inherited) rados.setConf(option, String(ours));
}

function noAnswer(rados: Rados, seconds: number): string {
  return `no monitor of the cluster answers within ${seconds} s (mon_host is ${rados.conf("mon_host")})`;
}

function whyNotConnected(rados: Rados, { user }: RbdTarget, result: number): string {
  const reason = reasonOf({ errno: result });
  if (result === -EACCES || result === -EPERM)
    return `the cluster refuses client.${user}: ${reason}; compare its keyring with ceph auth get client.${user}`;
  if (result === -ENOENT)
    return `there is no keyring for client.${user} (looked for ${rados.conf("keyring")})`;
  return `the cluster can't be reached: ${reason}`;
}

function whyNoPool({ pool, user }: RbdTarget, result: number): string {
  if (result === -ENOENT) return `the cluster has no pool ${pool}`;
  if (result === -EPERM || result === -EACCES) return `client.${user} may not use the pool ${pool}: ${CAPS}`;
  return `the pool ${pool} can't be opened: ${reasonOf({ errno: result })}`;
}

/** What such a user needs. */
export const CAPS = "it needs the caps mon 'profile rbd' and osd 'profile rbd pool=POOL'";
