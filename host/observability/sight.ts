// What somebody sees of one device: at its control socket, where it has one, and in the metrics of all.
import { CONTROL_ENDING, makeControlDirectory } from "../process/control-directories.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import { Attention } from "./attention.ts";
import { controlRoutes, TERMINAL_PATH } from "./control.ts";
import { Events } from "./events.ts";
import { createBoundedServer } from "./http-server.ts";
import type { Listeners } from "./listeners.ts";
import { Metrics } from "./metrics.ts";
import type { ResidentMemory } from "./resident-memory.ts";
import type { Subject } from "./subject.ts";
import { Terminals } from "./terminals.ts";
import type { Upgrader } from "./upgrader.ts";

/** A device of the process, and its log. */
export interface Observed {
  readonly subject: Subject;
  readonly log: LimitedLog;
  /** Where its control socket is to be. */
  readonly controlSocket?: string | undefined;
}

/** What control sockets have in common. */
export interface ControlParts {
  readonly access: AccessChoice | undefined;
  readonly memory: ResidentMemory;
  readonly quit: () => void;
  readonly upgrade: Upgrader | undefined;
}

export class Sight {
  readonly attention: Attention;
  readonly events = new Events();
  private end: () => void = () => {};

  constructor(readonly observed: Observed) {
    this.attention = new Attention(observed.subject.backend.activity);
  }

  get hasControlSocket(): boolean {
    return this.observed.controlSocket !== undefined;
  }

  /** Throws StartError. */
  async openControl(listeners: Listeners, parts: ControlParts): Promise<void> {
    const { access, memory, quit, upgrade } = parts;
    const { attention, events, observed } = this;
    const { subject, log, controlSocket } = observed;
    if (controlSocket === undefined) return;
    const terminals = new Terminals(subject.backend.device, log);
    const metrics = new Metrics(subject.name, [subject], memory, () => attention.look());
    const routes = controlRoutes(subject, attention, metrics, events, terminals, log, quit, upgrade);
    const server = createBoundedServer(routes, log, { [TERMINAL_PATH]: terminals.upgrade });
    makeControlDirectory(controlSocket);
    this.end = await listeners.open(server, { path: controlSocket }, access);
    log.observe = (entry) => events.add(entry);
    tellOpen(controlSocket, log);
  }

  /** At once, whoever is connected. */
  close(): void {
    this.attention.end();
    this.observed.log.observe = undefined;
    this.events.close();
    this.end();
  }
}

export function tellOpen(controlSocket: string, log: LimitedLog): void {
  log.info({ controlSocket }, "control socket is open");
  if (!controlSocket.endsWith(CONTROL_ENDING))
    log.info({ controlSocket }, "vringd ls, top and exporter find only sockets whose names end in .control");
}
