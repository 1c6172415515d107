// The devices of a process: they start and end together, and whatever becomes of one front-end, the others' go on.
import { Service, type ServiceOptions } from "../backend/service.ts";
import type { ServiceOffer } from "../backend/service-state.ts";
import type { AnyDevice } from "../devices/engine-device.ts";
import type { OpenContext } from "../devices/program.ts";
import type { ObservabilityOptions, Observed } from "../observability/observability.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { Entrance } from "../protocol/entrance.ts";

/** One device of the process. */
export interface DeviceChoice {
  readonly entrance: Entrance;
  readonly controlSocket: string | undefined;
  /** What tells its metrics and its log lines from those of others. Left out: it is alone. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly logFields?: Readonly<Record<string, unknown>>;
  openDevice(context: OpenContext): Promise<AnyDevice>;
}

export interface Served extends Observed {
  readonly service: Service;
}

/** What holds for all of them. */
interface Common extends Pick<ServiceOptions, "access" | "once" | "packed"> {
  readonly name: string;
  readonly observability: Pick<ObservabilityOptions, "metrics">;
}

/** Of a predecessor, in the order of the devices. */
export type Inherited = readonly ServiceOffer[] | undefined;

/** All listen when this resolves. Throws what the first one throws that can't start; the others are closed then. */
export async function startAll(
  devices: readonly DeviceChoice[],
  common: Common,
  inherited: Inherited,
  stopping: AbortSignal,
  log: LimitedLog,
): Promise<Served[]> {
  const served: Served[] = [];
  const ownSockets = socketsOf(devices, common);
  try {
    for (const [i, device] of devices.entries())
      served.push(await start(device, common, inherited?.[i], { stopping, log, ownSockets }));
    return served;
  } catch (error) {
    await closeAll(served);
    throw error;
  }
}

/** Until each has ended. `tell`: what they are doing, for a service manager. */
export async function runAll(served: readonly Served[], tell: (status: string) => void): Promise<void> {
  if (served.length === 1) return served[0]!.service.run(tell);
  let connected = 0;
  const count = (change: number) => {
    connected += change;
    tell(`serving ${connected} of ${served.length} front-ends`);
  };
  for (const { service } of served)
    service.events.on("connect", () => count(1)).on("disconnect", () => count(-1));
  count(0);
  await Promise.all(served.map(({ service }) => service.run()));
}

export async function closeAll(served: readonly Served[]): Promise<void> {
  const results = await Promise.allSettled(served.map(({ service }) => service.close()));
  for (const { log } of served) log.flush();
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

function socketsOf(devices: readonly DeviceChoice[], { observability: { metrics } }: Common): string[] {
  return [
    ...devices.flatMap(({ entrance }) => ("socketPath" in entrance ? [entrance.socketPath] : [])),
    ...devices.flatMap(({ controlSocket }) => controlSocket ?? []),
    ...(metrics && "path" in metrics ? [metrics.path] : []),
  ];
}

async function start(
  { entrance, controlSocket, labels, logFields, openDevice }: DeviceChoice,
  { name, access, once, packed }: Common,
  inherited: ServiceOffer | undefined,
  { log, ...context }: Omit<OpenContext, "inherited"> & { log: LimitedLog },
): Promise<Served> {
  const own = logFields === undefined ? log : log.with(logFields);
  const offered = inherited && { offer: inherited.device };
  const open = () => openDevice({ ...context, log: own, inherited: offered });
  const options = { access, once, packed, entrance, openDevice: open, inherited };
  const service = await Service.start(options, context.stopping, own);
  return { service, subject: { name, entrance, labels, backend: service.backend }, log: own, controlSocket };
}
