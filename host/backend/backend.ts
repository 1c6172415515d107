// One device with its workers, its memory and its inflight region: what stays from one front-end to the next.
import { EventEmitter } from "node:events";
import type { AnyDevice } from "../devices/engine-device.ts";
import type { DiskFailure } from "../engines/disk-failure.ts";
import { reasonOf } from "../errors.ts";
import { DirtyLog } from "../memory/dirty-log.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { InflightRegion } from "../memory/inflight-region.ts";
import { GuestMemoryError } from "../memory/region-list.ts";
import { onAbort } from "../process/abort.ts";
import type { Log } from "../process/log.ts";
import { Connection } from "../protocol/connection.ts";
import { isFrontEndsFault } from "../session/request.ts";
import { Session } from "../session/session.ts";
import { type Activity, type Counts, DeviceActivity, Tally } from "./activity.ts";
import { Seats } from "./seats.ts";
import type { FrontEndLeft, KeepFrontEnd, ServiceState } from "./service-state.ts";
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

/** A front-end that is connected. */
interface Served {
  readonly number: number;
  readonly session: Session;
  readonly connection: Connection;
  readonly tally: Tally;
}

/** The same, as others may see it. */
export type FrontEndState = Pick<Session, "connectedAtMs" | "features" | "protocolFeatures" | "isServed">;

export class Backend {
  readonly activity: Activity;
  /** In the order in which they came. */
  private readonly all = new Set<Served>();
  private readonly seats: Seats;
  private readonly dirtyLog: DirtyLog;
  private frontEndCount = 0;
  private keepFrontEnd: KeepFrontEnd | undefined;

  private constructor(
    readonly device: AnyDevice,
    readonly workers: Workers,
    readonly events: EventEmitter<BackendEvents>,
    private readonly memory: GuestMemory,
    inflight: InflightRegion,
    private readonly packed: boolean,
    private readonly log: Log,
  ) {
    this.activity = new DeviceActivity(device, workers.counters, () => workers.brokenRings);
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
    return this.sessions;
  }

  private get sessions(): Session[] {
    return [...this.all].map(({ session }) => session);
  }

  /** Resolves when the front-end has left. */
  serve(connection: Connection, stopping: AbortSignal): Promise<void> {
    const number = ++this.frontEndCount;
    this.log.info(this.all.size > 0 ? { frontEnd: number } : {}, "front-end connected");
    this.events.emit("connect");
    const served = this.open(number, connection, this.tally());
    this.keepWith(served);
    return this.untilLeft(served, stopping);
  }

  /** What is said from here on outlives this process. */
  keep(keep: KeepFrontEnd): void {
    this.keepFrontEnd = keep;
    for (const served of this.all) this.keepWith(served);
  }

  /**
   * Has another process go on with all front-ends: `give` resolves when that has everything. Where it rejects, all goes on here.
   * Rejects with a RangeError, which says why, where it can't be now. `late`: it is too late to wait for a front-end.
   */
  async handOver(give: (state: ServiceState) => Promise<void>, late: AbortSignal): Promise<void> {
    const stopped = this.sessions.reduce<() => Promise<void>>(
      (inner, session) => () => session.whileHeld(inner, late),
      () => this.give(give),
    );
    await stopped();
  }

  /** As a predecessor has saved it. No ring runs before goOn(). Throws what can't be served here. */
  async restore(state: ServiceState): Promise<Connection[]> {
    const { frontEndCount, frontEnds, queues, brokenRings, device } = state;
    this.frontEndCount = frontEndCount;
    this.workers.counters.restore(queues);
    this.workers.brokenRings = brokenRings;
    const restored = frontEnds.map(({ number, counts, session }) => {
      const tally = new Tally(() => this.activity.counts(), counts);
      return { session, served: this.open(number, new Connection(session.connection.fd), tally) };
    });
    // The seat is taken by whoever comes first.
    const byOrder = [...restored].sort((a, b) => Number(b.session.isServed) - Number(a.session.isServed));
    for (const { session, served } of byOrder) served.session.restore(session);
    await this.device.succession?.take?.(device);
    return restored.map(({ served }) => served.connection);
  }

  /** Whom a process that has died has left, as far as they can be served here. No ring runs before goOn(). */
  comeBack(left: readonly FrontEndLeft[]): Connection[] {
    this.frontEndCount = Math.max(this.frontEndCount, ...left.map(({ number }) => number));
    // Where both say so, the seat went to the one that came last.
    const byOrder = [...left].sort(
      (a, b) => Number(b.session.isServed) - Number(a.session.isServed) || b.number - a.number,
    );
    return byOrder.flatMap((each) => this.comesBack(each) ?? []);
  }

  /** Rings run again that a predecessor has stopped. */
  async goOn(hasDied = false): Promise<void> {
    for (const session of this.sessions) await session.goOn(hasDied);
  }

  /** Those whom a predecessor has handed over, until each has left. */
  serveRestored(connection: Connection, stopping: AbortSignal): Promise<void> {
    return this.untilLeft([...this.all].find((served) => served.connection === connection)!, stopping);
  }

  private keepWith({ number, session }: Served): void {
    if (this.keepFrontEnd) session.keepWith(this.keepFrontEnd(number, session));
  }

  private tally(): Tally {
    return new Tally(() => this.activity.counts());
  }

  private comesBack({ number, session: state, keep, refuse }: FrontEndLeft): Connection | undefined {
    const served = this.open(number, new Connection(state.connection.fd), this.tally());
    const { session, connection } = served;
    const misfit = session.misfit(state);
    if (misfit !== undefined) {
      this.all.delete(served);
      refuse(misfit, false);
      return undefined;
    }
    try {
      session.restore(state);
      session.forgetStarts();
      session.keepWith(keep(session));
    } catch (error) {
      if (!isFrontEndsFault(error) && !(error instanceof GuestMemoryError)) throw error;
      refuse(reasonOf(error), true);
    }
    return connection;
  }

  private async give(give: (state: ServiceState) => Promise<void>): Promise<void> {
    const { device, frontEndCount, workers } = this;
    for (const { obstacle } of this.sessions)
      if (obstacle !== undefined) throw new RangeError(`a front-end ${obstacle}: try again`);
    const given = await device.succession?.give?.();
    const frontEnds = [...this.all].map(({ number, session, tally }) => ({
      number,
      counts: tally.soFar,
      session: session.save(),
    }));
    const { brokenRings, counters } = workers;
    try {
      await give({ frontEndCount, frontEnds, queues: counters.save(), brokenRings, device: given });
    } catch (error) {
      await device.succession?.takeBack?.();
      throw error;
    }
  }

  private async untilLeft(served: Served, stopping: AbortSignal): Promise<void> {
    const { log, events, all } = this;
    const { session, number: frontEnd, tally } = served;
    const unhear = onAbort(stopping, () => session.stop());
    const fault = await session.run();
    unhear();
    const isOneOfTwo = all.size > 1;
    all.delete(served);
    for (const other of this.sessions) other.othersLeft();
    log.info(isOneOfTwo ? { ...tally.counts, frontEnd } : tally.counts, "front-end left");
    events.emit("disconnect", tally.counts, fault);
  }

  private open(frontEnd: number, connection: Connection, tally: Tally): Served {
    const { device, packed, workers: rings, log } = this;
    const seat = this.seats.open((isTaken) => {
      if (!isTaken) {
        tally.end();
        return;
      }
      tally.begin();
      // Where it is alone nothing else was to be expected.
      if (this.all.size > 1) log.info({ frontEnd }, "front-end is served in place of another");
    });
    const { memory, inflight } = seat;
    const isAlone = () => this.all.size === 1;
    const shared = { device, packed, rings, dirtyLog: this.dirtyLog, isAlone };
    const session = new Session(connection, shared, { seat, memory, inflight }, log);
    const served = { number: frontEnd, session, connection, tally };
    this.all.add(served);
    return served;
  }

  private get served(): Session | undefined {
    return this.sessions.find(({ isServed }) => isServed);
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

  /** When the device is closed, too, and nobody asks any more what it has done. */
  releaseMemory(): void {
    this.memory.linear.release();
  }
}
