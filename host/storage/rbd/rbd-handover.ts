// An RBD image that goes from one process to another, and maybe to another host, while its guest moves: by its exclusive lock. Neither
// is fenced off, since neither was killed.
import { SystemError } from "../../linux/libc.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import type { Handover } from "../storage.ts";
import type { Cluster } from "./cluster.ts";
import { type RbdLock, WATCH_GRACE_MS } from "./lock.ts";

export interface RbdHandoverChoice {
  readonly lockTimeoutMs: number;
  /** Another has it when this process starts. */
  readonly incoming?: boolean | undefined;
}

export class RbdHandover implements Handover {
  readonly isOurs: boolean;
  readonly patienceMs: number;
  readonly mayChangeSize = true;

  constructor(
    private readonly image: RbdImage,
    private readonly cluster: Cluster,
    /** Left out: nothing keeps others away. */
    private readonly lock: RbdLock | undefined,
    { incoming, lockTimeoutMs }: RbdHandoverChoice,
  ) {
    this.isOurs = !incoming;
    this.patienceMs = lockTimeoutMs + WATCH_GRACE_MS;
  }

  get hasLock(): boolean {
    return this.lock !== undefined;
  }

  async tryTake(): Promise<boolean> {
    return (await this.lock?.tryTake()) === undefined;
  }

  async describeHolder(): Promise<string> {
    const holder = await this.lock?.holder();
    if (holder?.pid !== undefined) return `in use by process ${holder.pid}`;
    return holder === undefined ? "held by another client" : `held by the client ${holder.address}`;
  }

  /** What has completed is on all replicas; it may still be that something is under way for librbd itself. */
  async flush(): Promise<void> {
    const result = await this.cluster.answer(this.image.flush());
    if (result < 0) throw new SystemError("rbd_flush", -result);
  }

  async letGo(): Promise<void> {
    await this.lock?.release();
  }
}
