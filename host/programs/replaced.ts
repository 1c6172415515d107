// This process, as one in whose place another is to serve.
import type { Observability } from "../observability/observability.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { ReplacedProcess } from "../upgrade/preparation.ts";
import type { ServedSet } from "./served-set.ts";

export function replacedBy(
  name: string,
  devices: ServedSet,
  observability: Observability | undefined,
  log: LimitedLog,
): ReplacedProcess {
  return {
    name,
    services: () => devices.services,
    members: () => devices.asked,
    sockets: () => observability?.sockets() ?? {},
    logLevel: () => log.level,
    log,
  };
}
