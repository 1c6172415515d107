// A daemon whose standby serves as soon as it has died: what each of the two does.
import type { StandbyState } from "../backend/service-state.ts";
import type { Observability } from "../observability/observability.ts";
import { onAbort } from "../process/abort.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { nameProcess } from "../process/name.ts";
import { programArguments } from "../process/paths.ts";
import type { Predecessor } from "../upgrade/predecessor.ts";
import type { Standby } from "../upgrade/standby.ts";
import { closeAll, type Served } from "./served.ts";

/** Waits in the place of a predecessor. Undefined if it was told to end, before there was anything to do. */
export async function standBy(
  served: Served[],
  name: string,
  predecessor: Predecessor,
  stopping: AbortSignal,
  log: LimitedLog,
): Promise<Served[] | undefined> {
  nameProcess(name, "(standby)");
  await predecessor.standBy(
    served.map(({ service }) => service),
    stopping,
  );
  if (stopping.aborted) {
    await closeAll(served);
    return undefined;
  }
  log.warn({ died: predecessor.offer.pid }, "the process that served has died, and this one takes over");
  nameProcess(name);
  return served;
}

/** To be started when this process serves. Throws StartError where there can be none. */
export async function makeStandby(
  name: string,
  served: readonly Served[],
  observability: Observability | undefined,
  state: StandbyState,
  stopping: AbortSignal,
  log: LimitedLog,
): Promise<Standby> {
  const [{ Standby }, { commandOf }] = await Promise.all([
    import("../upgrade/standby.ts"),
    import("../upgrade/successor.ts"),
  ]);
  const standby = new Standby(
    served.map(({ service }) => service),
    { name, sockets: () => observability?.sockets() ?? {}, logLevel: () => log.level, log },
    commandOf(undefined, programArguments()),
    state,
  );
  // What is stuck in the kernel must not have another serve when it is given up.
  onAbort(stopping, () => void standby.end());
  return standby;
}
