// A device that is served at an entrance, from start to end: what the daemon and the library have in common.
import type { AnyDevice } from "../devices/engine-device.ts";
import type { Log } from "../process/log.ts";
import { type AccessChoice, type Entrance, prepareEntrance } from "../protocol/entrance.ts";
import type { FrontEnds } from "../protocol/listener.ts";
import { Backend } from "./backend.ts";
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
}

export class Service {
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
    const { entrance, access, packed } = options;
    const openEntrance = prepareEntrance(entrance, access, log);
    let device: AnyDevice | undefined;
    let frontEnds: FrontEnds | undefined;
    try {
      device = await options.openDevice();
      const memory = reserveMemory(device);
      // Before the workers have started: whoever connects meanwhile waits in the backlog.
      frontEnds = openEntrance();
      const backend = await Backend.open(device, memory, packed, log);
      return new Service(backend, frontEnds, options, stopping);
    } catch (error) {
      if ("fd" in entrance) frontEnds ??= openEntrance();
      frontEnds?.close();
      await device?.close?.();
      throw error;
    }
  }

  /** Whoever listens to what happens to the device. */
  get events(): Backend["events"] {
    return this.backend.events;
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
    stopping.addEventListener("abort", close);
    const served = new Set<Promise<void>>();
    try {
      while (!stopping.aborted) {
        tell(STATUSES[served.size]!);
        if (served.size === frontEnds.atOnce) await Promise.race(served);
        else if (!(await this.serveNext(served, tell))) break;
      }
      await Promise.all(served);
    } finally {
      stopping.removeEventListener("abort", close);
      close();
    }
  }

  /** False when no more will come. Rejects as soon as one that is served can't be. */
  private async serveNext(served: Set<Promise<void>>, tell: (status: string) => void): Promise<boolean> {
    const { frontEnds, backend, stopping } = this;
    const failure = Promise.all(served).then(() => new Promise<never>(() => {}));
    const connection = await Promise.race([frontEnds.next(), failure]);
    if (connection === undefined) return false;
    const serving = backend.serve(connection, stopping).finally(() => {
      served.delete(serving);
      if (this.options.once && connection.hasSpoken && served.size === 0) frontEnds.close();
      tell(STATUSES[served.size]!);
    });
    served.add(serving);
    return true;
  }
}

/** By how many are served. */
const STATUSES = [
  "waiting for a front-end",
  "serving a front-end",
  "serving a front-end, with another connected",
];
