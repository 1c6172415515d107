// A device that is served at an entrance, from start to end: what the daemon and the library have in common.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { AnyDevice } from "../devices/engine-device.ts";
import { descriptorOf } from "../linux/descriptor.ts";
import { onAbort } from "../process/abort.ts";
import type { Log } from "../process/log.ts";
import type { Connection } from "../protocol/connection.ts";
import {
  type AccessChoice,
  type Entrance,
  prepareEntrance,
  succeedAtEntrance,
} from "../protocol/entrance.ts";
import type { FrontEnds } from "../protocol/listener.ts";
import { Backend } from "./backend.ts";
import type { FrontEndLeft, ServiceOffer, ServiceState } from "./service-state.ts";
import { reserveMemory } from "./workers.ts";

export interface ServiceOptions {
  readonly entrance: Entrance;
  /** Who may connect to `entrance`, where that is a socket of our own. */
  readonly access: AccessChoice;
  /** End when the first front-end has left, and no other is connected. */
  readonly once: boolean;
  /** Offer packed virtqueues too. */
  readonly packed: boolean;
  /** Makes the device. It is closed by the service. */
  openDevice(): Promise<AnyDevice>;
  /** Of a predecessor, which serves until restore(). Left out: there is none. */
  readonly inherited?: ServiceOffer | undefined;
}

export class Service {
  /** Whom a predecessor has handed over. */
  private restored: readonly Connection[] = [];
  private isTaken = false;

  private constructor(
    readonly backend: Backend,
    private readonly frontEnds: FrontEnds,
    private readonly options: ServiceOptions,
    private readonly stopping: AbortSignal,
  ) {}

  /**
   * Front-ends can connect when this resolves, and are served by run(). Throws what openDevice() throws, and StartError; nothing is
   * left open then, nor is a descriptor that was handed over.
   */
  static async start(options: ServiceOptions, stopping: AbortSignal, log: Log): Promise<Service> {
    const { entrance, access, packed, inherited } = options;
    let service: Service | undefined;
    const isTaken = () => service?.isTaken ?? false;
    const openEntrance = inherited
      ? () => succeedAtEntrance(entrance, { listening: inherited.listening?.fd, isTaken }, log)
      : prepareEntrance(entrance, access, log);
    let device: AnyDevice | undefined;
    let frontEnds: FrontEnds | undefined;
    try {
      device = await options.openDevice();
      const memory = reserveMemory(device);
      // Before the workers have started: whoever connects meanwhile waits in the backlog.
      frontEnds = openEntrance();
      const backend = await Backend.open(device, memory, packed, log);
      service = new Service(backend, frontEnds, options, stopping);
      return service;
    } catch (error) {
      if ("fd" in entrance || inherited) frontEnds ??= openEntrance();
      frontEnds?.close();
      await device?.close?.();
      throw error;
    }
  }

  /** Whoever listens to what happens to the device. */
  get events(): Backend["events"] {
    return this.backend.events;
  }

  /** Why no other process can go on with it now, a sentence; undefined: one can. */
  get obstacle(): string | undefined {
    const { succession, type } = this.backend.device;
    if (succession === undefined)
      return `what a device of type ${type} knows of its guest can't be handed to another process yet: end it and start it anew`;
    return succession.obstacle;
  }

  /** What another process starts with that is to go on with it. */
  offer(): ServiceOffer {
    return { ...this.entrance(), device: this.backend.device.succession!.offer?.() };
  }

  /** The same, of one that opens the device for itself. */
  entrance(): ServiceOffer {
    return { listening: descriptorOf(this.frontEnds.listening), device: undefined };
  }

  /** Whether front-ends can still come when this process has died. */
  get outlivesProcess(): boolean {
    return !("fd" in this.options.entrance) || this.frontEnds.listening !== undefined;
  }

  /** Has that process go on, as Backend.handOver() does. Nobody comes in meanwhile. */
  async handOver(give: (state: ServiceState) => Promise<void>, late: AbortSignal): Promise<void> {
    this.frontEnds.hold();
    try {
      // Whoever has just come in is among those that are served, then.
      await nextTurn();
      await this.backend.handOver(give, late);
    } catch (error) {
      this.frontEnds.release();
      throw error;
    }
  }

  /** Before run(), with what a predecessor has handed over. */
  async restore(state: ServiceState): Promise<void> {
    this.restored = await this.backend.restore(state);
  }

  /** The predecessor does not go on any more: this process does. */
  goOn(): Promise<void> {
    this.isTaken = true;
    return this.backend.goOn();
  }

  /** Before run(): goes on with whom a process that has died has left, as far as that can be. */
  comeBack(left: readonly FrontEndLeft[]): Promise<void> {
    this.restored = this.backend.comeBack(left);
    return this.backend.goOn(true);
  }

  /** Another process goes on with all of it, and this one is about to end. */
  async leave(): Promise<void> {
    await this.backend.device.succession?.leave?.();
  }

  /** Ends the workers, and then closes the entrance and the device. Not while run() goes on. */
  async close(): Promise<void> {
    try {
      await this.backend.close();
    } finally {
      this.frontEnds.close();
      await this.backend.device.close?.();
    }
  }

  /** Whoever comes, two at a time, until stopped. `tell`: what the service is doing, for a service manager. */
  async run(tell: (status: string) => void = () => {}): Promise<void> {
    const { frontEnds, stopping } = this;
    const close = () => frontEnds.close();
    const unhear = onAbort(stopping, close);
    const served = new Set<Promise<void>>();
    for (const connection of this.restored)
      this.add(connection, this.backend.serveRestored(connection, stopping), served, tell);
    try {
      while (!stopping.aborted) {
        tell(STATUSES[served.size]!);
        if (served.size === frontEnds.atOnce) await Promise.race(served);
        else if (!(await this.serveNext(served, tell))) break;
      }
      await Promise.all(served);
    } finally {
      unhear();
      close();
    }
  }

  /** False when no more will come. Rejects as soon as one that is served can't be. */
  private async serveNext(served: Set<Promise<void>>, tell: (status: string) => void): Promise<boolean> {
    const { frontEnds, backend, stopping } = this;
    const failure = Promise.all(served).then(() => new Promise<never>(() => {}));
    const connection = await Promise.race([frontEnds.next(), failure]);
    if (connection === undefined) return false;
    this.add(connection, backend.serve(connection, stopping), served, tell);
    return true;
  }

  private add(
    connection: Connection,
    served: Promise<void>,
    all: Set<Promise<void>>,
    tell: (status: string) => void,
  ): void {
    const serving = served.finally(() => {
      all.delete(serving);
      if (this.options.once && connection.hasSpoken && all.size === 0) this.frontEnds.close();
      tell(STATUSES[all.size]!);
    });
    all.add(serving);
  }
}

/** By how many are served. */
const STATUSES = [
  "waiting for a front-end",
  "serving a front-end",
  "serving a front-end, with another connected",
];
