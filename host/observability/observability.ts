// All that lets others look at a running daemon, opened and closed as one. Loaded only if somebody may look.
import type { Server } from "node:http";
import { Descriptor } from "../linux/descriptor.ts";
import { choice } from "../process/choices.ts";
import { CONTROL_ENDING, makeControlDirectory } from "../process/control-directories.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import { Attention } from "./attention.ts";
import { controlRoutes, TERMINAL_PATH } from "./control.ts";
import { Events } from "./events.ts";
import { createBoundedServer } from "./http-server.ts";
import { listenAt } from "./listen.ts";
import { Metrics } from "./metrics.ts";
import { formatMetricsAddress, type MetricsAddress } from "./metrics-address.ts";
import type { Subject } from "./subject.ts";
import { Terminals } from "./terminals.ts";
import type { Upgrader } from "./upgrader.ts";

export interface ObservabilityOptions {
  controlAccess?: AccessChoice;
  metrics?: MetricsAddress | undefined;
  metricsAccess?: AccessChoice;
  /** What a predecessor has handed over: sockets that listen, by address. */
  inherited?: Readonly<Record<string, Descriptor>> | undefined;
  /** Has a successor serve. Left out: that is not to be asked for here. */
  upgrade?: Upgrader | undefined;
}

/** A device of the process, and its log. */
export interface Observed {
  readonly subject: Subject;
  readonly log: LimitedLog;
  /** Where its control socket is to be. */
  readonly controlSocket?: string | undefined;
}

/** What somebody sees of one device. */
class Sight {
  readonly attention: Attention;
  readonly events = new Events();

  constructor(readonly observed: Observed) {
    this.attention = new Attention(observed.subject.backend.activity);
  }

  close(): void {
    this.attention.end();
    this.observed.log.observe = undefined;
    this.events.close();
  }
}

export class Observability {
  private readonly open: { server: Server; address: MetricsAddress; close: () => void }[] = [];
  private readonly metrics: Metrics[] = [];
  private readonly sights: readonly Sight[];

  private constructor(
    all: readonly Observed[],
    private readonly options: ObservabilityOptions,
    private readonly log: LimitedLog,
  ) {
    this.sights = all.map((each) => new Sight(each));
  }

  static async open(
    options: ObservabilityOptions,
    all: readonly Observed[],
    log: LimitedLog,
  ): Promise<Observability> {
    const observability = new Observability(all, options, log);
    try {
      for (const sight of observability.sights) await observability.openControl(sight, options);
      observability.hearProcess();
      await observability.openMetrics(options);
      return observability;
    } catch (error) {
      observability.close();
      throw error;
    }
  }

  /** Of all that listens, by address. They stay its own. */
  sockets(): Record<string, Descriptor> {
    return Object.fromEntries(
      this.open.map(({ server, address }) => [formatMetricsAddress(address), new Descriptor(fdOf(server))]),
    );
  }

  /** Others listen there from here on. Who is connected stays so. */
  leave(): void {
    for (const { server } of this.open.splice(0)) server.close();
  }

  /** At once, whoever is connected. */
  close(): void {
    this.log.observe = undefined;
    for (const sight of this.sights) sight.close();
    for (const each of this.metrics) each.close();
    for (const { close } of this.open.splice(0)) close();
  }

  private async openControl(sight: Sight, { controlAccess }: ObservabilityOptions): Promise<void> {
    const { attention, events, observed } = sight;
    const { subject, log, controlSocket } = observed;
    if (controlSocket === undefined) return;
    const terminals = new Terminals(subject.backend.device, log);
    const metrics = this.metricsOf([sight]);
    const routes = controlRoutes(
      subject,
      attention,
      metrics,
      events,
      terminals,
      log,
      quit,
      this.options.upgrade,
    );
    const server = createBoundedServer(routes, log, { [TERMINAL_PATH]: terminals.upgrade });
    makeControlDirectory(controlSocket);
    await this.listen(server, { path: controlSocket }, controlAccess);
    log.observe = (entry) => events.add(entry);
    log.info({ controlSocket }, "control socket is open");
    if (!controlSocket.endsWith(CONTROL_ENDING))
      log.info(
        { controlSocket },
        "vringd ls, top and exporter find only sockets whose names end in .control",
      );
  }

  /** What happens to the process happens to each of its devices. */
  private hearProcess(): void {
    const heard = this.sights.filter(({ observed }) => observed.log.observe !== undefined);
    this.log.observe ??= (entry) => {
      for (const { events } of heard) events.add(entry);
    };
  }

  private async openMetrics({ metrics: address, metricsAccess }: ObservabilityOptions): Promise<void> {
    if (address === undefined) return;
    const metrics = this.metricsOf(this.sights);
    const routes = { "/metrics": { GET: () => metrics.answer() } };
    await this.listen(createBoundedServer(routes, this.log), address, metricsAccess);
    this.log.info({ metrics: formatMetricsAddress(address) }, "metrics are open");
  }

  private metricsOf(sights: readonly Sight[]): Metrics {
    const look = () => {
      for (const { attention } of sights) attention.look();
    };
    const metrics = new Metrics(
      sights.map(({ observed }) => observed.subject),
      look,
    );
    this.metrics.push(metrics);
    return metrics;
  }

  private async listen(server: Server, address: MetricsAddress, access?: AccessChoice): Promise<void> {
    const inherited = this.options.inherited?.[formatMetricsAddress(address)]?.fd;
    const option = choice("metrics");
    const close = await listenAt(server, address, { access, option, inherited, log: this.log });
    this.open.push({ server, address, close });
  }
}

function fdOf(server: Server): number {
  return (server as unknown as { _handle: { fd: number } })._handle.fd;
}

function quit(): void {
  process.kill(process.pid, "SIGTERM");
}
