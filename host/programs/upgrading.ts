// A daemon that is upgraded: what it tells whoever asked for it, and how it ends when its successor serves.
import { setTimeout as sleep } from "node:timers/promises";
import { exitNow } from "../linux/libc.ts";
import type { Tell } from "../linux/service-manager.ts";
import type { Observability } from "../observability/observability.ts";
import type { Upgrader } from "../observability/upgrader.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { programArguments } from "../process/paths.ts";
import type { Standby } from "../upgrade/standby.ts";
import { commandOf, SuccessorLost } from "../upgrade/successor.ts";
import { Upgrade } from "../upgrade/upgrade.ts";
import type { Keeping } from "./keeping.ts";
import { replacedBy } from "./replaced.ts";
import type { ServedSet } from "./served-set.ts";

/** The time that whoever asked for the upgrade has to read the answer. */
const ANSWER_MS = 1000;

export interface Upgraded {
  readonly name: string;
  readonly devices: ServedSet;
  readonly observability: Observability;
  readonly standby: Standby | undefined;
  readonly keeping: Keeping | undefined;
  readonly tell: Tell;
  readonly stopping: AbortSignal;
  readonly log: LimitedLog;
}

export class Upgrading implements Upgrader {
  private upgrade: Upgrade | undefined;
  answered: () => void = () => {};

  /** `daemon`: what it is once somebody can ask. */
  constructor(private readonly daemon: () => Upgraded) {}

  async run(binary: string | undefined): Promise<Record<string, string | number>> {
    const { name, devices, observability, standby, keeping, stopping, log } = this.daemon();
    const own = replacedBy(name, devices, observability, log);
    this.upgrade ??= new Upgrade({ ...own, standby, keeping, stopping });
    const upgrade = this.upgrade;
    try {
      const command = commandOf(binary, programArguments());
      const { pid, release, pauseMs } = await devices.hold(() => upgrade.run(command));
      log.info({ pid, release, pauseMs: Math.round(pauseMs) }, "a successor serves");
      void this.end(pid);
      return { pid, release, pauseMs: Math.round(pauseMs * 10) / 10 };
    } catch (error) {
      if (!(error instanceof SuccessorLost)) throw error;
      log.error({ reason: error.message }, "nobody serves any more, which a new start can change");
      log.flush();
      return exitNow(1);
    }
  }

  /** Nothing is to be closed that is the successor's, too. */
  private async end(pid: number): Promise<void> {
    const { devices, observability, tell, stopping, log } = this.daemon();
    tell(`MAINPID=${pid}`);
    observability.leave();
    // It was for whoever serves.
    if (stopping.aborted) process.kill(pid, "SIGTERM");
    const answered = new Promise<void>((resolve) => {
      this.answered = resolve;
    });
    const left = Promise.allSettled(devices.services.map((service) => service.leave()));
    await Promise.race([Promise.all([answered, left]), sleep(ANSWER_MS)]);
    log.flush();
    exitNow(0);
  }
}
