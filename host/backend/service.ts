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
  /** End when the first front-end has left. */
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

  /** One front-end after the other, until stopped. `tell`: what the service is doing, for a service manager. */
  async run(tell: (status: string) => void = () => {}): Promise<void> {
    const { frontEnds, stopping, backend } = this;
    const close = () => frontEnds.close();
    stopping.addEventListener("abort", close);
    try {
      while (!stopping.aborted) {
        tell("waiting for a front-end");
        const connection = await frontEnds.next();
        if (connection === undefined) return;
        tell("serving a front-end");
        await backend.serve(connection, stopping);
        if (this.options.once && connection.hasSpoken) return;
      }
    } finally {
      stopping.removeEventListener("abort", close);
      close();
    }
  }
}
