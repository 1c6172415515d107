// One device with its workers, its memory and its inflight region: what stays from one front-end to the next.
import { EventEmitter } from "node:events";
import type { AnyDevice } from "../devices/engine-device.ts";
import type { DiskFailure } from "../engines/disk-failure.ts";
import { DirtyLog } from "../memory/dirty-log.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { InflightRegion } from "../memory/inflight-region.ts";
import type { Log } from "../process/log.ts";
import type { Connection } from "../protocol/connection.ts";
import { Session } from "../session/session.ts";
import { type Activity, type Counts, DeviceActivity, Tally } from "./activity.ts";
import { Seats } from "./seats.ts";
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

/** A front-end that is connected, as others may see it. */
export type FrontEndState = Pick<Session, "connectedAtMs" | "features" | "protocolFeatures" | "isServed">;

export class Backend {
  readonly activity: Activity;
  /** In the order in which they came. */
  private readonly sessions = new Set<Session>();
  private readonly seats: Seats;
  private readonly dirtyLog: DirtyLog;
  private frontEndCount = 0;

  private constructor(
    readonly device: AnyDevice,
    readonly workers: Workers,
    readonly events: EventEmitter<BackendEvents>,
    memory: GuestMemory,
    inflight: InflightRegion,
    private readonly packed: boolean,
    private readonly log: Log,
  ) {
    this.activity = new DeviceActivity(device, workers.counters, () => workers.brokenRings());
    this.seats = new Seats(memory, inflight);
    this.dirtyLog = new DirtyLog(memory.linear);
    events.on("broken", (ring, reason) => this.served?.ringBroken(ring, reason));
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
        configChanged: () => backend?.configChanged(),
        whileStopped: (change) => backend?.whileStopped(change) ?? change(),
        broken: (ring, reason) => events.emit("broken", ring, reason),
        failed: (error) => events.emit("error", error),
        requestFailed: (failure) => events.emit("requestFailed", failure),
      },
      log,
    );
    backend = new Backend(device, workers, events, memory, inflight, packed, log);
    return backend;
  }

  /** Those that are connected, in the order in which they came. One of them is served, or none. */
  get frontEnds(): readonly FrontEndState[] {
    return [...this.sessions];
  }

  /** Resolves when the front-end has left. */
  async serve(connection: Connection, stopping: AbortSignal): Promise<void> {
    const { log, events } = this;
    const frontEnd = ++this.frontEndCount;
    const tally = new Tally(() => this.activity.counts());
    log.info(this.sessions.size > 0 ? { frontEnd } : {}, "front-end connected");
    events.emit("connect");
    const session = this.open(connection, frontEnd, tally);
    this.sessions.add(session);
    const stop = () => session.stop();
    stopping.addEventListener("abort", stop);
    const fault = await session.run();
    stopping.removeEventListener("abort", stop);
    const isOneOfTwo = this.sessions.size > 1;
    this.sessions.delete(session);
    for (const other of this.sessions) other.othersLeft();
    log.info(isOneOfTwo ? { ...tally.counts, frontEnd } : tally.counts, "front-end left");
    events.emit("disconnect", tally.counts, fault);
  }

  private open(connection: Connection, frontEnd: number, tally: Tally): Session {
    const { device, packed, workers: rings, log } = this;
    const seat = this.seats.open((isTaken) => {
      if (!isTaken) {
        tally.end();
        return;
      }
      tally.begin();
      // Where it is alone nothing else was to be expected.
      if (this.sessions.size > 1) log.info({ frontEnd }, "front-end is served in place of another");
    });
    const { memory, inflight } = seat;
    const isAlone = () => this.sessions.size === 1;
    const served = { device, packed, rings, dirtyLog: this.dirtyLog, isAlone };
    return new Session(connection, served, { seat, memory, inflight }, log);
  }

  private get served(): Session | undefined {
    return [...this.sessions].find(({ isServed }) => isServed);
  }

  private configChanged(): void {
    for (const session of this.sessions) session.configChanged();
  }

  /** Where no front-end is served, no ring runs. */
  private whileStopped(change: () => Promise<void>): Promise<void> {
    return this.served?.whileStopped(change) ?? change();
  }

  /** Ends the workers; the device stays open. */
  async close(): Promise<void> {
    await this.workers.close();
  }
}
