// Hands all that this process serves to a new one, which guests notice as a pause of milliseconds (docs/operate.md, "Upgrade").
//
// Until the successor has said that it has taken over, nothing but this process has touched a ring or the disk; so whatever becomes of the
// successor, this one goes on, as after a crash of its own.
import type { ServiceState } from "../backend/service-state.ts";
import type { State, Taken } from "./messages.ts";
import { prepare, type ReplacedProcess } from "./preparation.ts";
import type { Standby } from "./standby.ts";
import { type Command, Successor } from "./successor.ts";

/** While no ring runs. */
const SWITCH_MS = 5000;

const LATE = `has not taken over within the ${SWITCH_MS / 1000} s that a guest may have to wait`;

export interface UpgradedProcess extends ReplacedProcess {
  /** Where it has one: it would take the end of this process for its death. The successor has one of its own. */
  readonly standby: Standby | undefined;
  /** Where a service manager keeps its connections: those that a successor has are not to be the next start's, too. */
  readonly keeping: { start(): void; stop(): void } | undefined;
  /** The process was told to end. */
  readonly stopping: AbortSignal;
}

export interface Upgraded {
  readonly pid: number;
  readonly release: string;
  /** From when the first ring was to stop until the successor was about to start them. */
  readonly pauseMs: number;
}

export class Upgrade {
  private isUnderWay = false;

  constructor(private readonly own: UpgradedProcess) {}

  /** Another process serves when this resolves. Rejects with a RangeError, a sentence that says why none does; this one goes on then. */
  async run(command: Command): Promise<Upgraded> {
    if (this.isUnderWay) throw new RangeError("an upgrade is under way already");
    this.isUnderWay = true;
    const { standby, keeping, stopping, log } = this.own;
    await standby?.end();
    try {
      return await this.attempt(command);
    } catch (error) {
      if (error instanceof RangeError) {
        log.warn({ reason: error.message }, "the upgrade failed");
        if (!stopping.aborted) standby?.start();
        keeping?.start();
      }
      this.isUnderWay = false;
      throw error;
    }
  }

  private async attempt(command: Command): Promise<Upgraded> {
    this.refuse();
    this.own.log.info({ command: command.join(" ") }, "a successor starts");
    const successor = Successor.start(command);
    try {
      const { release } = await prepare(successor, this.own, (service) => service.offer());
      const pauseMs = await this.change(successor);
      successor.letGo();
      return { pid: successor.pid, release, pauseMs };
    } catch (error) {
      await successor.end();
      successor.close();
      throw error;
    }
  }

  private refuse(): void {
    for (const { obstacle } of this.own.services())
      if (obstacle !== undefined) throw new RangeError(obstacle);
  }

  /** Resolves with how long it took. */
  private async change(successor: Successor): Promise<number> {
    this.refuse();
    const startMs = performance.now();
    const states: ServiceState[] = [];
    // Not AbortSignal.timeout(), which Node 20 may collect as garbage before its time has come.
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), SWITCH_MS);
    const stopped = this.own.services().reduce<() => Promise<void>>(
      (inner, service) => () =>
        service.handOver(async (state) => {
          states.unshift(state);
          await inner();
        }, late.signal),
      () => this.give(successor, { services: states }, startMs),
    );
    await stopped().finally(() => clearTimeout(timer));
    return performance.now() - startMs;
  }

  private async give(successor: Successor, state: State, startMs: number): Promise<void> {
    const leftMs = startMs + SWITCH_MS - performance.now();
    if (this.own.stopping.aborted) throw new RangeError("this process was told to end");
    if (leftMs <= 0)
      throw new RangeError(`its requests in flight took more than ${SWITCH_MS / 1000} s to stop`);
    this.own.keeping?.stop();
    successor.tell(state);
    await successor.receive<Taken>(leftMs, LATE, true);
  }
}
