// One front-end from its first message to its last: messages come in, find their request in the table, and are answered. It owns
// every descriptor that the front-end sent.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Device } from "../devices/device.ts";
import { Descriptor } from "../linux/descriptor.ts";
import { aborted } from "../process/abort.ts";
import type { Log } from "../process/log.ts";
import { Turns } from "../process/turns.ts";
import type { Connection } from "../protocol/connection.ts";
import * as m from "../protocol/messages.ts";
import type { VringStart } from "../workers/data-plane.ts";
import { ActivationGate } from "./activation-gate.ts";
import { Answers } from "./answers.ts";
import { DeviceRequests } from "./device-requests.ts";
import type { KeptSession, SessionKeeper } from "./keeper.ts";
import { LogRequests, type SessionLog } from "./log-requests.ts";
import { MemoryRequests, type SessionInflight, type SessionMemory } from "./memory-requests.ts";
import { isFrontEndsFault } from "./request.ts";
import { requestTable } from "./request-table.ts";
import { hasPast } from "./ring-past.ts";
import { RingRequests } from "./ring-requests.ts";
import type { Occupant, SessionSeat } from "./seat.ts";
import type { SessionState } from "./session-state.ts";
import { StateRequests } from "./state-requests.ts";
import { type RingRunner, Vrings } from "./vrings.ts";

/** What outlives a front-end, and each of them finds as new. */
export interface Served {
  readonly device: Device;
  /** Whether packed rings are offered too. */
  readonly packed: boolean;
  readonly rings: RingRunner;
  readonly dirtyLog: SessionLog;
  /** Whether no other front-end is connected. */
  isAlone(): boolean;
}

const UNHEARD =
  "the front-end has no way to be told of a change of the device (BACKEND_REQ): its guest learns of it when it restarts";

/** What is this front-end's own, whoever is served. */
export interface SessionParts {
  readonly seat: SessionSeat;
  readonly inflight: SessionInflight;
  readonly memory: SessionMemory;
}

export class Session implements Occupant, KeptSession {
  connectedAtMs = performance.now();
  private readonly vrings: Vrings;
  private readonly requests: DeviceRequests;
  private readonly log: LogRequests;
  private readonly state: StateRequests;
  private readonly answers: Answers;
  /** Requests, and what must not go on beside them. */
  private readonly turns = new Turns();
  private readonly gate: ActivationGate;
  /** Its guest was moved away: its rings are stopped, and have logged all. */
  private hasMoved = false;
  private hasBegun = false;
  private hasEnded = false;
  private keeper: SessionKeeper | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly served: Served,
    private readonly own: SessionParts,
    private readonly logger: Log,
  ) {
    const { device, packed, rings, dirtyLog } = served;
    const { seat, inflight, memory } = own;
    const { length: queueCount } = device.queues;
    const events = {
      firstStart: (start: VringStart) => this.beforeFirstStart(start),
      started: () => this.ringStarted(),
      rested: () => this.rested(),
    };
    this.gate = new ActivationGate(device.activation, {
      opened: () => void this.turns.run(() => this.vrings.startHeldUp()).then(() => this.keeper?.changed()),
      refused: (reason) => void this.turns.run(() => this.vrings.breakHeldUp(reason)),
    });
    this.vrings = new Vrings(queueCount, memory, inflight, rings, seat, this.gate, events, logger);
    this.log = new LogRequests(dirtyLog, rings, memory, seat, () => this.connection.interrupt());
    this.state = new StateRequests(device.state, seat);
    const isServing = () => this.turns.isTaken;
    this.requests = new DeviceRequests(device, packed, this.vrings, inflight, seat, this.log, isServing);
    const suspends = () => this.requests.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT);
    const replyFds: number[] = [];
    const table = requestTable(
      this.requests,
      new MemoryRequests(memory, inflight, this.vrings, queueCount, (fd) => replyFds.push(fd)),
      new RingRequests(this.vrings, queueCount, suspends, () => this.log.signal()),
      this.log,
      this.state,
    );
    this.answers = new Answers(connection, table, this.requests, replyFds, logger);
  }

  /** Whether it is the one whose rings may run. */
  get isServed(): boolean {
    return this.own.seat.isTaken;
  }

  get isAtRest(): boolean {
    return this.vrings.areAtRest;
  }

  /** As negotiated so far. */
  get features(): bigint {
    return this.requests.features;
  }

  get protocolFeatures(): bigint {
    return this.requests.protocolFeatures;
  }

  /**
   * Serves until the front-end leaves or breaks the protocol, or until stopped; then nothing of it is left. Resolves with
   * what the front-end did wrong, if that is why it ended.
   */
  async run(): Promise<Error | undefined> {
    try {
      this.begin();
      for (;;) {
        const message = await this.connection.receive();
        if (message === undefined) return undefined;
        this.keeper?.came(message.fds);
        await this.turns.run(() => this.answers.serve(message));
        this.requests.news.served();
        // A front-end that floods us must not keep signals and the reports of workers waiting.
        await nextTurn();
      }
    } catch (error) {
      if (!isFrontEndsFault(error)) throw error;
      this.logger.warn({ reason: error.message }, "connection closed");
      return error;
    } finally {
      await this.turns.run(() => this.end());
    }
  }

  /**
   * Does this between two of the front-end's requests, of which none is read meanwhile, while no ring runs. Where it resolves, another
   * process goes on with the front-end; where it rejects, this one does.
   */
  async whileHeld(change: () => Promise<void>, late: AbortSignal): Promise<void> {
    try {
      await Promise.race([this.connection.hold(), aborted(late)]);
      if (late.aborted) throw new RangeError("a request of the front-end's has begun, and does not end");
      await this.turns.run(() => this.vrings.whileSuspended(change));
    } catch (error) {
      this.requests.news.served();
      this.connection.release();
      throw error;
    }
  }

  /** Why another process can't go on with it now, in words that follow the front-end; undefined: it can. */
  get obstacle(): string | undefined {
    if (this.hasEnded) return "has just left";
    return this.state.isTransferring ? "is moving the device's state" : undefined;
  }

  /** As after any crash, those who come next do again what is recorded. */
  get outlivesProcess(): boolean {
    const { device } = this.served;
    // Requests of the device's own bring what no state has.
    const isKnown = device.inflight === true && device.messages === undefined;
    return isKnown && !this.hasEnded && !this.state.isTransferring && this.vrings.areRecorded;
  }

  /** Before run(), and after restore() if there was anything to restore. */
  keepWith(keeper: SessionKeeper): void {
    this.keeper = keeper;
    this.connection.observe(keeper);
  }

  /** Between two of the front-end's requests. Its descriptors stay its own. */
  save(): SessionState {
    const { memory, inflight } = this.own;
    return {
      connection: new Descriptor(this.connection.fd),
      isServed: this.isServed,
      connectedForMs: performance.now() - this.connectedAtMs,
      hasSpoken: this.connection.hasSpoken,
      hasMoved: this.hasMoved,
      negotiated: this.requests.save(),
      memory: memory.save(),
      inflight: inflight.save(),
      log: this.log.save(),
      loaded: this.state.save(),
      vrings: this.vrings.save(),
    };
  }

  /** Why what a process has saved, which may have had other options, can't be served by this one: a sentence. Undefined: it can. */
  misfit({ negotiated, vrings }: SessionState): string | undefined {
    if (vrings.length > this.served.device.queues.length)
      return `it has ${vrings.length} rings, and there are ${this.served.device.queues.length} now`;
    return this.requests.misfit(negotiated);
  }

  /**
   * As a predecessor has saved it, before run(). Takes the descriptors. Throws ProtocolError, GuestMemoryError, or SystemError if it can't be
   * served here: then run() ends at once.
   */
  restore(state: SessionState): void {
    this.connectedAtMs = performance.now() - state.connectedForMs;
    this.connection.hasSpoken = state.hasSpoken;
    // What can fail comes when this has all descriptors, and so ends them.
    this.requests.restore(state.negotiated);
    this.log.restore(state.log);
    this.state.restore(state.loaded);
    this.vrings.restore(state.vrings, state.negotiated.features);
    try {
      this.restoreMemory(state);
      this.begin();
      this.vrings.restored(state.vrings);
    } catch (error) {
      this.connection.interrupt();
      throw error;
    }
    this.hasMoved = state.hasMoved;
  }

  /** The process that has saved it has died: what its rings have done since is known by the inflight region alone. */
  forgetStarts(): void {
    this.vrings.forgetStarts();
  }

  /** Rings run again that ran when a predecessor had them. `hasDied`: it may have missed what it was to tell. */
  goOn(hasDied = false): Promise<void> {
    return this.turns.run(async () => {
      await this.vrings.goOn();
      this.requests.goOn();
      if (hasDied && this.requests.hearsOfConfigChanges) this.requests.news.changed();
    });
  }

  private restoreMemory({ memory, inflight }: SessionState): void {
    try {
      if (inflight) this.own.inflight.set(inflight.description, inflight.file.fd);
    } finally {
      this.own.memory.replace(memory.map(({ description, file }) => ({ description, fd: file.fd })));
    }
  }

  private begin(): void {
    if (!this.hasBegun) this.own.seat.begin(this);
    this.hasBegun = true;
  }

  /** Ends run() after the request at hand. */
  stop(): void {
    this.connection.interrupt();
    this.own.seat.interrupt();
  }

  seated(): void {
    this.keeper?.changed();
    this.vrings.forgetStarts();
    this.requests.seated();
    this.state.seated();
    this.log.seated();
  }

  unseated(): void {
    this.keeper?.changed();
    this.hasMoved = false;
    this.log.unseated();
    this.requests.unseated();
  }

  /** Another front-end has left, which might have been where the guest was moved to. */
  othersLeft(): void {
    if (this.hasMoved && this.isServed && this.isAtRest) void this.turns.run(() => this.handOver());
  }

  /** A ring takes no more requests. */
  ringBroken(index: number, reason: string): void {
    this.keeper?.changed();
    this.vrings.reportBroken(index, reason);
  }

  /** The device's config space has changed. */
  configChanged(): void {
    this.keeper?.changed();
    if (this.requests.hearsOfConfigChanges) this.requests.news.changed();
    else if (this.vrings.areRunning) this.logger.info(UNHEARD);
  }

  /** Changes what requests must not see changing, between two of the front-end's requests. */
  async whileStopped(change: () => Promise<void>): Promise<void> {
    try {
      await this.turns.run(() => this.vrings.whileStopped(change));
    } finally {
      this.requests.news.served();
    }
  }

  /**
   * The rings come first: when its connection breaks, QEMU looks how far they have got, and would have repeated what
   * finishes after that.
   */
  private async end(): Promise<void> {
    const { seat, memory, inflight } = this.own;
    this.hasEnded = true;
    seat.ending();
    await this.vrings.close();
    await this.log.end();
    this.keeper?.end();
    this.connection.end();
    memory.clear();
    inflight.clear();
    this.requests.end();
    this.state.end();
    seat.end();
  }

  private ringStarted(): void {
    this.hasMoved = false;
    this.requests.news.ringStarted();
  }

  /** A migration's source stops its rings so. */
  private async rested(): Promise<void> {
    this.hasMoved = this.log.isOn && this.isServed;
    await this.handOver();
  }

  /** Where another front-end is connected the guest moves within this process, most likely. */
  private async handOver(): Promise<void> {
    if (this.hasMoved && this.served.isAlone()) await this.gate.handOver();
  }

  /** Such a driver may have written to the config space before. */
  private beforeFirstStart(start: VringStart): void {
    if (this.requests.isConfigOld || hasPast(start, this.own.memory)) this.served.device.inherited?.();
  }
}
