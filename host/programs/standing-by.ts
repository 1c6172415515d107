// A daemon whose standby serves as soon as it has died: what each of the two does.
import type { StandbyState } from "../backend/service-state.ts";
import type { Observability } from "../observability/observability.ts";
import { onAbort } from "../process/abort.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { nameProcess } from "../process/name.ts";
import { programArguments } from "../process/paths.ts";
import type { Predecessor } from "../upgrade/predecessor.ts";
import type { Standby } from "../upgrade/standby.ts";
import { replacedBy } from "./replaced.ts";
import type { ServedSet } from "./served-set.ts";

/** Waits in the place of a predecessor. False if it was told to end, before there was anything to do. */
export async function standBy(
  devices: ServedSet,
  name: string,
  predecessor: Predecessor,
  stopping: AbortSignal,
  log: LimitedLog,
): Promise<boolean> {
  nameProcess(name, "(standby)");
  await predecessor.standBy(devices.services, stopping);
  if (stopping.aborted) {
    await devices.close();
    return false;
  }
  log.warn({ died: predecessor.offer.pid }, "the process that served has died, and this one takes over");
  nameProcess(name);
  return true;
}

/** To be started when this process serves. Throws StartError where there can be none. */
export async function makeStandby(
  name: string,
  devices: ServedSet,
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
    replacedBy(name, devices, observability, log),
    commandOf(undefined, programArguments()),
    state,
  );
  // What is stuck in the kernel must not have another serve when it is given up.
  onAbort(stopping, () => void standby.end());
  return standby;
}
