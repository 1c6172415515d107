// All that lets others look at a running daemon, opened and closed as one. Loaded only if somebody may look.
import type { Descriptor } from "../linux/descriptor.ts";
import { makeControlDirectory } from "../process/control-directories.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import { Events } from "./events.ts";
import { createBoundedServer } from "./http-server.ts";
import { type InheritedSockets, Listeners } from "./listeners.ts";
import type { MemberList } from "./members.ts";
import { Metrics } from "./metrics.ts";
import { formatMetricsAddress, type MetricsAddress } from "./metrics-address.ts";
import { processRoutes } from "./process.ts";
import { ResidentMemory } from "./resident-memory.ts";
import { type ControlParts, type Observed, Sight, tellOpen } from "./sight.ts";
import type { Upgrader } from "./upgrader.ts";

export type { Observed };

/** Where others look, and who they may be. */
export interface ObserverChoice {
  controlAccess?: AccessChoice;
  metrics?: MetricsAddress | undefined;
  metricsAccess?: AccessChoice;
}

export interface ObservabilityOptions extends ObserverChoice {
  /** The program's name. */
  name: string;
  /** What a predecessor has handed over: sockets that listen, by address. */
  inherited?: InheritedSockets | undefined;
  /** Has a successor serve. Left out: that is not to be asked for here. */
  upgrade?: Upgrader | undefined;
  /** Of a process whose devices come and go: they are asked for at this control socket. */
  process?: { readonly controlSocket: string; readonly members: MemberList } | undefined;
}

export class Observability {
  private readonly listeners: Listeners;
  private readonly memory = new ResidentMemory();
  private readonly control: ControlParts;
  private readonly sights = new Map<Observed, Sight>();
  /** Of the process, where its devices come and go. */
  private readonly events = new Events();
  private metrics: Metrics | undefined;

  private constructor(
    private readonly options: ObservabilityOptions,
    private readonly log: LimitedLog,
  ) {
    this.listeners = new Listeners(options.inherited ?? {}, log);
    const { controlAccess: access, upgrade } = options;
    this.control = { access, memory: this.memory, quit, upgrade };
  }

  static async open(
    options: ObservabilityOptions,
    all: readonly Observed[],
    log: LimitedLog,
  ): Promise<Observability> {
    const observability = new Observability(options, log);
    try {
      for (const observed of all) await observability.look(observed);
      observability.renewMetrics();
      await observability.openProcess();
      observability.hearProcess();
      await observability.openMetrics();
      return observability;
    } catch (error) {
      observability.close();
      throw error;
    }
  }

  /** One more device. Throws StartError; nothing of it is seen then. */
  async add(observed: Observed): Promise<void> {
    try {
      await this.look(observed);
    } catch (error) {
      this.remove(observed);
      throw error;
    }
    this.renewMetrics();
  }

  /** It ends. */
  remove(observed: Observed): void {
    this.sights.get(observed)?.close();
    this.sights.delete(observed);
    this.renewMetrics();
  }

  /** Of all that listens, by address. They stay its own. */
  sockets(): Record<string, Descriptor> {
    return this.listeners.sockets();
  }

  /** Others listen there from here on. Who is connected stays so. */
  leave(): void {
    this.listeners.leave();
  }

  /** At once, whoever is connected. */
  close(): void {
    this.log.observe = undefined;
    for (const sight of this.sights.values()) sight.close();
    this.events.close();
    this.listeners.close();
    this.memory.close();
  }

  private async look(observed: Observed): Promise<void> {
    const sight = new Sight(observed);
    this.sights.set(observed, sight);
    await sight.openControl(this.listeners, this.control);
  }

  /** Of all devices that are there now, if anybody may ask for that. */
  private renewMetrics(): void {
    const { name, metrics, process } = this.options;
    if (metrics === undefined && process === undefined) return;
    const sights = [...this.sights.values()];
    const look = () => {
      for (const { attention } of sights) attention.look();
    };
    this.metrics = new Metrics(
      name,
      sights.map(({ observed }) => observed.subject),
      this.memory,
      look,
    );
  }

  private async openProcess(): Promise<void> {
    const { name, process } = this.options;
    if (process === undefined) return;
    const { events, log } = this;
    const { access, quit, upgrade } = this.control;
    const parts = { events, log, quit, upgrade };
    const routes = processRoutes(name, process.members, () => this.metrics!, parts);
    makeControlDirectory(process.controlSocket);
    await this.listeners.open(createBoundedServer(routes, log), { path: process.controlSocket }, access);
    tellOpen(process.controlSocket, log);
  }

  /** What happens to the process happens to each of its devices. */
  private hearProcess(): void {
    this.log.observe ??= (entry) => {
      this.events.add(entry);
      for (const sight of this.sights.values()) if (sight.hasControlSocket) sight.events.add(entry);
    };
  }

  private async openMetrics(): Promise<void> {
    const { metrics: address, metricsAccess } = this.options;
    if (address === undefined) return;
    const routes = { "/metrics": { GET: () => this.metrics!.answer() } };
    await this.listeners.open(createBoundedServer(routes, this.log), address, metricsAccess);
    this.log.info({ metrics: formatMetricsAddress(address) }, "metrics are open");
  }
}

function quit(): void {
  process.kill(process.pid, "SIGTERM");
}
