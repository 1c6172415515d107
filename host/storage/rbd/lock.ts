// One writer at a time, and nothing of a dead one's behind it: the exclusive lock of an image (docs/ceph.md).
import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf } from "../../errors.ts";
import { EACCES, EBUSY, ENOENT, EPERM, EROFS } from "../../linux/errno.ts";
import { SystemError } from "../../linux/libc.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import type { Cluster } from "./cluster.ts";
import type { OwnerRecord, OwnerState } from "./owner-record.ts";
import { wrong } from "./uri.ts";

/** One that was told to end needs a moment. */
const PATIENCE_MS = 700;
const RETRY_MS = 250;
/** The cluster counts a client as gone osd_client_watch_timeout (30 s) after it was last heard of; and then acts. */
export const WATCH_GRACE_MS = 5000;
/** rbd_lock_acquire itself may wait for a watch to expire. */
const ACQUIRE_MS = 60_000;

export interface Holder {
  readonly address: string;
  readonly state: OwnerState;
  readonly pid?: number;
}

export class RbdLock {
  /** As the cluster knows this client, once it has had the lock. */
  private address: string | undefined;
  private isOurs = false;

  constructor(
    private readonly image: RbdImage,
    private readonly cluster: Cluster,
    private readonly record: OwnerRecord,
    private readonly uri: string,
    private readonly log: Log,
  ) {}

  /** As far as this client knows. */
  get isHeld(): boolean {
    return this.isOurs;
  }

  /** Waits for whoever has it. Rejects with a StartError. */
  async take(timeoutMs: number, stopping: AbortSignal): Promise<void> {
    const startMs = performance.now();
    for (let isTold = false; ; ) {
      const holder = await this.tryTake(stopping);
      if (holder === undefined) return;
      const waitedMs = performance.now() - startMs;
      if (waitedMs > PATIENCE_MS) {
        if (holder.state === "lives")
          throw wrong(this.uri, `process ${holder.pid} has it; it can be served when that has ended`);
        if (waitedMs > timeoutMs + WATCH_GRACE_MS) throw wrong(this.uri, held(holder));
        if (!isTold)
          this.log.info({ file: this.uri, owner: holder.address, forSeconds: timeoutMs / 1000 }, WAITING);
        isTold = true;
      }
      await sleep(RETRY_MS, undefined, { signal: stopping });
    }
  }

  /**
   * Takes the lock unless somebody has it that may live, who is what this resolves with. Other clients' requests for it are refused
   * from here on. What a killed predecessor has sent may still be under way in the cluster: whoever takes its lock puts its address on
   * the cluster's blocklist first, after which no OSD that serves us takes anything of it. So nothing may be written, nor done again,
   * before. Rejects with a StartError.
   */
  async tryTake(stopping?: AbortSignal): Promise<Holder | undefined> {
    for (;;) {
      const holder = await this.holder(stopping);
      if (holder?.state === "gone") await this.fence(holder, stopping);
      else if (holder !== undefined && (await this.isAnother(holder, stopping))) return holder;
      else if (await this.acquire(stopping)) {
        await this.remember(stopping);
        return undefined;
      }
    }
  }

  /** Who has it; undefined: nobody. Rejects with a StartError. */
  async holder(stopping?: AbortSignal): Promise<Holder | undefined> {
    const address = await this.cluster.answer(this.image.lockOwner(), stopping);
    if (typeof address === "number")
      throw wrong(this.uri, `nobody says who has its lock: ${reasonOf({ errno: address })}`);
    return address === undefined ? undefined : { address, ...this.record.stateOf(address) };
  }

  /** Rejects with a SystemError, or with a StartError if the cluster doesn't answer. */
  async release(): Promise<void> {
    const result = await this.cluster.answer(this.image.releaseLock());
    if (result < 0) throw new SystemError("rbd_lock_release", -result);
    this.isOurs = false;
    this.forget();
  }

  /** It is gone. Whoever has it by now may have noted that already. */
  forget(): void {
    if (this.address !== undefined) this.record.remove(this.address);
  }

  /**
   * A client that took the lock by itself, as QEMU and rbd(8) do, would hand it over to whoever asks, and have its own writes refused
   * from then on: so nobody that the cluster still hears of is asked.
   */
  private async isAnother({ address, state }: Holder, stopping?: AbortSignal): Promise<boolean> {
    // Letting it go has failed halfway.
    if (address === this.address) return false;
    if (state === "lives") return true;
    return (await this.cluster.answer(this.image.watchers(), stopping)).includes(address);
  }

  /** False if somebody was faster. */
  private async acquire(stopping?: AbortSignal): Promise<boolean> {
    const result = await this.cluster.answer(this.image.acquireLock(), stopping, ACQUIRE_MS);
    if (result < 0 && result !== -EROFS) throw wrong(this.uri, `its lock can't be taken: ${whyNot(result)}`);
    return result >= 0;
  }

  private async remember(stopping?: AbortSignal): Promise<void> {
    const owner = await this.cluster.answer(this.image.lockOwner(), stopping);
    this.isOurs = true;
    if (typeof owner === "string") this.address = owner;
    if (typeof owner === "string" && this.record.write(owner)) return;
    this.log.info({ file: this.uri }, UNRECORDED);
  }

  /** Of a process of this host that has ended without closing the image. */
  private async fence({ address }: Holder, stopping?: AbortSignal): Promise<void> {
    const result = await this.cluster.answer(this.image.breakLock(address), stopping);
    // Somebody else was faster; who has it now is looked at anew.
    if (result < 0 && result !== -ENOENT && result !== -EBUSY)
      throw wrong(this.uri, `the lock of a process that was killed can't be broken: ${whyNot(result)}`);
    if (result < 0) return;
    this.log.info({ file: this.uri, owner: address }, FENCED_OFF);
  }
}

const WAITING = "waiting for the lock of the image, which another client has, or has left behind";
const UNRECORDED =
  "there is no place to record who has the lock: a successor of this process waits 30 s if it is killed";
const FENCED_OFF = "the lock of a process that was killed is broken, and what it has sent is fenced off";

function held({ address }: Holder): string {
  const ways = `end that first, or see rbd status; ${choice("readOnly")} serves it beside that, and a snapshot shows what doesn't change`;
  return `the client ${address} has its lock and is still there; ${ways}`;
}

function whyNot(result: number): string {
  const isRefused = result === -EPERM || result === -EACCES;
  const reason = reasonOf({ errno: result });
  return isRefused ? `${reason}; the blocklist is part of the caps mon 'profile rbd'` : reason;
}
