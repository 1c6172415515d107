// One device that this process serves: how it starts.
import { Service, type ServiceOptions } from "../backend/service.ts";
import type { ServiceOffer } from "../backend/service-state.ts";
import type { AnyDevice } from "../devices/engine-device.ts";
import type { Member, OpenContext } from "../devices/program.ts";
import type { Observed } from "../observability/observability.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { Entrance } from "../protocol/entrance.ts";

/** One device of the process. */
export interface DeviceChoice {
  readonly entrance: Entrance;
  readonly controlSocket: string | undefined;
  /** Left out: it is alone. */
  readonly member?: Member;
  openDevice(context: OpenContext): Promise<AnyDevice>;
}

export interface Served extends Observed {
  readonly service: Service;
  /** Left out: it is alone. */
  readonly member?: Member | undefined;
}

/** What holds for all devices of a process. */
export interface Common extends Pick<ServiceOptions, "access" | "once" | "packed"> {
  readonly name: string;
}

export function tellReady({ subject, log }: Served): void {
  log.info({ ...subject.entrance, ...subject.backend.device.facts?.log }, "ready");
}

/** It listens when this resolves. Throws StartError; nothing is left open then. */
export async function start(
  { entrance, controlSocket, member, openDevice }: DeviceChoice,
  { name, access, once, packed }: Common,
  inherited: ServiceOffer | undefined,
  { log, ...context }: Omit<OpenContext, "inherited"> & { log: LimitedLog },
): Promise<Served> {
  const own = member === undefined ? log : log.with(member.logFields);
  const offered = inherited && { offer: inherited.device };
  const open = () => openDevice({ ...context, log: own, inherited: offered });
  const options = { access, once, packed, entrance, openDevice: open, inherited };
  const service = await Service.start(options, context.stopping, own);
  const subject = { name, entrance, labels: member?.labels, backend: service.backend };
  return { service, member, subject, log: own, controlSocket };
}
