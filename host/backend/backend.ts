// One device with its workers, its memory and its inflight region: what stays from one front-end to the next.
import { EventEmitter } from "node:events";
import type { AnyDevice } from "../devices/engine-device.ts";
import type { DiskFailure } from "../engines/disk-failure.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { InflightRegion } from "../memory/inflight-region.ts";
import type { Log } from "../process/log.ts";
import type { Connection } from "../protocol/connection.ts";
import { Session } from "../session/session.ts";
import { type Activity, type Counts, DeviceActivity, difference } from "./activity.ts";
import { openWorkers, type Workers } from "./workers.ts";

export interface BackendEvents {
  /** A front-end has come. */
  connect: [];
  /** It has left, after so many requests. `fault`: what it did wrong, if that is why. */
  disconnect: [counts: Counts, fault: Error | undefined];
  /** The driver broke a ring. */
  broken: [ring: number, reason: string];
  requestFailed: [failure: DiskFailure];
  /** A worker has failed, which it must not. Unheard, it is thrown. */
  error: [error: Error];
}

/** The front-end that is served now, as others may see it. */
export type FrontEndState = Pick<Session, "connectedAtMs" | "features" | "protocolFeatures">;

export class Backend {
  readonly activity: Activity;
  private session: Session | undefined;

  private constructor(
    readonly device: AnyDevice,
    readonly workers: Workers,
    readonly events: EventEmitter<BackendEvents>,
    private readonly memory: GuestMemory,
    private readonly inflight: InflightRegion,
    private readonly packed: boolean,
    private readonly log: Log,
  ) {
    this.activity = new DeviceActivity(device, workers.counters, () => workers.brokenRings());
    events.on("broken", (ring, reason) => this.session?.ringBroken(ring, reason));
  }

  /** `packed`: whether packed rings are offered too. Throws StartError. */
  static async open(device: AnyDevice, memory: GuestMemory, packed: boolean, log: Log): Promise<Backend> {
    const events = new EventEmitter<BackendEvents>();
    let backend: Backend | undefined;
    const inflight = new InflightRegion(memory.linear);
    const workers = await openWorkers(
      device,
      memory,
      inflight,
      {
        configChanged: () => backend?.session?.configChanged(),
        broken: (ring, reason) => events.emit("broken", ring, reason),
        failed: (error) => events.emit("error", error),
        requestFailed: (failure) => events.emit("requestFailed", failure),
      },
      log,
    );
    backend = new Backend(device, workers, events, memory, inflight, packed, log);
    return backend;
  }

  get frontEnd(): FrontEndState | undefined {
    return this.session;
  }

  /** Resolves when the front-end has left. */
  async serve(connection: Connection, stopping: AbortSignal): Promise<void> {
    const { device, memory, inflight, packed, workers: rings, log, events } = this;
    const before = this.activity.counts();
    log.info("front-end connected");
    events.emit("connect");
    const session = new Session(connection, { device, packed, memory, inflight, rings }, log);
    this.session = session;
    const stop = () => session.stop();
    stopping.addEventListener("abort", stop);
    const fault = await session.run();
    stopping.removeEventListener("abort", stop);
    this.session = undefined;
    const counts = difference(this.activity.counts(), before);
    log.info(counts, "front-end left");
    events.emit("disconnect", counts, fault);
  }

  /** Ends the workers; the device stays open. */
  async close(): Promise<void> {
    await this.workers.close();
  }
}
