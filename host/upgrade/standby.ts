// Keeps a process that waits, loaded and with its threads started, until this one has died, and then serves in its place
// (docs/operate.md, "Standby").
//
// It has the sockets that listen here, so a front-end that connects meanwhile waits in a backlog. The disk it has opened for itself:
// the lock must last as long as the requests of the process that has died.
import { setTimeout as sleep } from "node:timers/promises";
import type { StandbyState } from "../backend/service-state.ts";
import { StartError } from "../errors.ts";
import { choice } from "../process/choices.ts";
import { prepare, type ReplacedProcess } from "./preparation.ts";
import { type Command, Successor } from "./successor.ts";

/** What is served has the processors for itself when it begins. */
const FIRST_MS = 500;
/** After one that has not lived so long, twice the time that was waited before it, up to this. */
const RETRY_MS_MAX = 60_000;

export class Standby {
  private ending = new AbortController();
  private successor: Successor | undefined;
  private keeping: Promise<void> | undefined;
  private changing: Promise<void> = Promise.resolve();
  private isWanted = false;

  /** Throws StartError where nobody can go on. */
  constructor(
    private readonly own: ReplacedProcess,
    private readonly command: Command,
    private readonly state: StandbyState,
  ) {
    if (own.services().every(({ outlivesProcess }) => outlivesProcess)) return;
    throw new StartError(
      `the front-end of ${choice("fd")} is connected already, and its connection ends with this process: leave out ${choice("standby")}`,
    );
  }

  start(): void {
    this.isWanted = true;
    void this.change();
  }

  /** What is served has changed, and whoever waits is to have opened that. */
  renew(): Promise<void> {
    return this.change();
  }

  /** Nobody takes over when this process ends. */
  end(): Promise<void> {
    this.isWanted = false;
    return this.change();
  }

  /** Whoever waits ends, and another one comes if one is wanted by then. One change after the other: two would leave two that wait. */
  private change(): Promise<void> {
    this.changing = this.changing.then(async () => {
      this.ending.abort();
      await this.successor?.end();
      await this.keeping;
      if (!this.isWanted) return;
      this.ending = new AbortController();
      this.keeping = this.keep();
    });
    return this.changing;
  }

  private async keep(): Promise<void> {
    const { signal } = this.ending;
    for (let waitMs = FIRST_MS; ; ) {
      await sleep(waitMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const beganMs = performance.now();
      const reason = await this.keepOne();
      if (signal.aborted) return;
      this.own.log.warn({ reason }, "there is no standby");
      const hasLived = performance.now() - beganMs > RETRY_MS_MAX;
      waitMs = hasLived ? FIRST_MS : Math.min(waitMs * 2, RETRY_MS_MAX);
    }
  }

  /** Resolves with why there is none, or no more. */
  private async keepOne(): Promise<string> {
    const successor = Successor.start(this.command);
    this.successor = successor;
    try {
      await prepare(successor, this.own, (service) => service.entrance(), true);
      this.state.pid = successor.pid;
      this.own.log.info({ standby: successor.pid }, "a standby is ready");
      return `it ${await successor.ended}`;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return error.message;
    } finally {
      this.state.pid = undefined;
      await successor.end();
      successor.close();
    }
  }
}
