// All rings of the device: each runs in the data plane exactly while what the front-end has said of it asks for that.
import { VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_RING_PACKED } from "../../assembly/spec/virtqueue.ts";
import { ProtocolError } from "../errors.ts";
import { signalPeer } from "../linux/peer-notifier.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { Log } from "../process/log.ts";
import { hasFeature } from "../protocol/feature-bits.ts";
import type { DataPlane, VringStart } from "../workers/data-plane.ts";
import type { ActivationGate } from "./activation-gate.ts";
import type { SessionSeat } from "./seat.ts";
import type { VringState } from "./session-state.ts";
import {
  initialBase,
  NO_FD,
  type RingAddresses,
  type RingFormat,
  type RingInflight,
  type RingMemory,
  Vring,
} from "./vring.ts";

export type RingRunner = Pick<DataPlane, "start" | "stop" | "suspend" | "setCall" | "setLogging">;

export interface VringEvents {
  /** A ring is about to start for the first time. */
  firstStart(start: VringStart): void;
  /** A ring runs. */
  started(): void;
  /** GET_VRING_BASE has stopped the last ring. */
  rested(): Promise<void>;
}

export class Vrings {
  private readonly all: Vring[];
  /** As negotiated. */
  format: Readonly<RingFormat> = { packed: false, eventIdx: false };
  private hasToldUntracked = false;

  constructor(
    count: number,
    private readonly memory: RingMemory & Pick<GuestMemory, "regionCount">,
    private readonly inflight: RingInflight,
    private readonly runner: RingRunner,
    private readonly seat: Pick<SessionSeat, "isTaken" | "take" | "rested">,
    private readonly gate: Pick<ActivationGate, "pass" | "used" | "end">,
    private readonly events: VringEvents,
    private readonly log: Log,
  ) {
    this.all = Array.from({ length: count }, (_, index) => new Vring(index));
  }

  at(index: number, request: string): Vring {
    const vring = this.all[index];
    if (vring === undefined) throw new ProtocolError(request, `ring ${index} of ${this.all.length}`);
    return vring;
  }

  /** "Ring states": none is started, enabled or not. */
  get areAtRest(): boolean {
    return this.all.every((vring) => vring.kickFd === undefined);
  }

  /** Others may have been served meanwhile: rings start as if for the first time. */
  forgetStarts(): void {
    for (const vring of this.all) vring.hasStarted = false;
  }

  /** Running rings go on undisturbed, so their format can't change. */
  negotiate(features: bigint): void {
    const packed = hasFeature(features, VIRTIO_F_RING_PACKED);
    const eventIdx = hasFeature(features, VIRTIO_F_RING_EVENT_IDX);
    const changes = packed !== this.format.packed || eventIdx !== this.format.eventIdx;
    if (changes && this.all.some((vring) => vring.isRunning)) {
      throw new ProtocolError("SET_FEATURES", "the format of running rings can't change");
    }
    this.format = { packed, eventIdx };
  }

  async enableAll(): Promise<void> {
    for (const vring of this.all) await this.setEnabled(vring, true);
  }

  async setEnabled(vring: Vring, isEnabled: boolean): Promise<void> {
    const before = vring.isEnabled;
    vring.isEnabled = isEnabled;
    await this.settle(vring).catch((error: unknown) => {
      // What is refused has no effect: the ring must not start later, with what may be stale by then.
      vring.isEnabled = before;
      throw error;
    });
  }

  async setAddresses(vring: Vring, addresses: RingAddresses): Promise<void> {
    if (isSame(vring.addresses, addresses)) return;
    await this.stop(vring);
    vring.addresses = addresses;
    this.checkAddresses(vring);
    await this.settle(vring);
  }

  /**
   * Starts the ring, now rather than at the first kick: that may have come, and have been read by a predecessor,
   * before this descriptor did.
   */
  async setKick(vring: Vring, fd: number): Promise<void> {
    await this.stop(vring);
    vring.setKick(fd);
    await this.settle(vring).catch((error: unknown) => {
      vring.setKick(undefined);
      throw error;
    });
  }

  async setCall(vring: Vring, fd: number): Promise<void> {
    if (vring.isRunning) await this.runner.setCall(vring.index, fd);
    vring.setCall(fd);
    // What completed since the call before went away, or was served by a predecessor, was told to nobody.
    if (fd !== NO_FD) signalPeer(fd);
  }

  /**
   * GET_VRING_BASE: the ring is stopped until the next kick descriptor. Nothing is left in flight, or, if it is to be
   * suspended, what is left is recorded and touches nothing any more.
   */
  async stopForBase(vring: Vring, isSuspend: boolean): Promise<number> {
    await this.stop(vring, isSuspend);
    if (this.all.every((each) => each === vring || each.kickFd === undefined)) {
      await this.gate.end();
      await this.events.rested();
    }
    vring.closeNotifiers();
    this.seat.rested();
    return vring.base ?? initialBase(this.format);
  }

  /** All rings are stopped, each where it is: GET_VRING_BASE may still ask for that. */
  async stopAll(): Promise<void> {
    await Promise.all(this.all.map((vring) => this.stop(vring)));
    await this.gate.end();
    for (const vring of this.all) vring.setKick(undefined);
    this.seat.rested();
  }

  /** Rings that the gate has held up may start. */
  async startHeldUp(): Promise<void> {
    for (const vring of this.all) await this.resume(vring);
    if (!this.areRunning) await this.gate.end();
  }

  /** They can't, and the front-end learns it. It may start them anew. */
  breakHeldUp(reason: string): void {
    const refused = this.all.filter((vring) => this.shouldRun(vring) && !vring.isRunning);
    for (const vring of refused) {
      vring.isBroken = true;
      if (vring.errFd !== NO_FD) signalPeer(vring.errFd);
    }
    this.log.error(
      { rings: refused.length, reason },
      "rings can't start: the device could not be taken over",
    );
  }

  get areRunning(): boolean {
    return this.all.some((vring) => vring.isRunning);
  }

  /** Changes guest memory, or the disk, while no ring runs, and lets those that ran go on from where they were. */
  async whileStopped(change: () => void | Promise<void>): Promise<void> {
    await Promise.all(this.all.map((vring) => this.stop(vring)));
    try {
      await change();
    } finally {
      for (const vring of this.all) await this.resume(vring);
    }
  }

  /** The same, but what is recorded may stay in flight. Where `change` rejects, this process goes on as it would after a crash. */
  async whileSuspended(change: () => Promise<void>): Promise<void> {
    await Promise.all(this.all.map((vring) => this.stop(vring, vring.isRunning && this.isRecorded(vring))));
    await change().catch(async (error: unknown) => {
      for (const vring of this.all) await this.resume(vring);
      throw error;
    });
  }

  /** All must have stopped. */
  save(): VringState[] {
    return this.all.map((vring) => vring.save());
  }

  /** Whether what is in flight in all rings that run outlives this process. */
  get areRecorded(): boolean {
    return this.all.every((vring) => !vring.isRunning || this.isRecorded(vring));
  }

  /** As a predecessor has left them. Takes the descriptors. */
  restore(states: readonly VringState[], features: bigint): void {
    this.negotiate(features);
    for (const [i, state] of states.entries()) this.at(i, "the state of a predecessor").restore(state);
  }

  /** Memory is there, too, and perhaps the seat. Throws ProtocolError if one that ran there can't run here. */
  restored(states: readonly VringState[]): void {
    // Taking the seat has them forgotten.
    for (const [i, { hasStarted }] of states.entries()) this.all[i]!.hasStarted = hasStarted;
    for (const vring of this.all)
      if (this.seat.isTaken && this.shouldRun(vring)) vring.describe(this.memory, this.inflight, this.format);
  }

  /** Those that ran when a predecessor had them go on. Their drivers are told of what completed last, as it may have been told to nobody. */
  async goOn(): Promise<void> {
    for (const vring of this.all) {
      await this.resume(vring);
      if (vring.isRunning && vring.callFd !== NO_FD) signalPeer(vring.callFd);
    }
  }

  /** A ring takes no more requests; the front-end learns it, the other rings go on. */
  reportBroken(index: number, reason: string): void {
    const vring = this.all[index]!;
    vring.isBroken = true;
    this.log.error({ ring: index, reason }, "ring broken");
    if (vring.errFd !== NO_FD) signalPeer(vring.errFd);
  }

  async reset(): Promise<void> {
    await this.stopAll();
    for (const vring of this.all) vring.reset();
    this.format = { packed: false, eventIdx: false };
  }

  async close(): Promise<void> {
    await this.reset();
    for (const vring of this.all) vring.setErr(NO_FD);
  }

  private isRecorded({ index, size }: Vring): boolean {
    return this.inflight.forQueue(index, size!, this.format.packed) !== undefined;
  }

  private async settle(vring: Vring): Promise<void> {
    if (!this.shouldRun(vring)) await this.stop(vring);
    else if (!vring.isRunning) await this.startIfMay(vring);
  }

  private shouldRun(vring: Vring): boolean {
    return vring.isReady && !vring.isBroken && this.memory.regionCount > 0;
  }

  private async startIfMay(vring: Vring): Promise<void> {
    await this.takeSeat(vring);
    if (!(await this.gate.pass())) return;
    try {
      await this.start(vring);
    } catch (error) {
      if (!this.areRunning) await this.gate.end();
      throw error;
    }
  }

  private async start(vring: Vring): Promise<void> {
    const start = vring.describe(this.memory, this.inflight, this.format);
    if (start.inflight === undefined && this.inflight.isSet) this.tellUntracked(vring);
    if (!vring.hasStarted) this.events.firstStart(start);
    vring.hasStarted = true;
    await this.runner.start(start);
    vring.isRunning = true;
    this.gate.used();
    this.events.started();
    this.log.debug({ ring: vring.index, size: vring.size, base: vring.base, ...this.format }, "ring started");
  }

  /** A ring that has to wait for too long is stopped again. */
  private async takeSeat(vring: Vring): Promise<void> {
    try {
      await this.seat.take(`the start of ring ${vring.index}`);
    } catch (error) {
      vring.setKick(undefined);
      throw error;
    }
  }

  /** Once a front-end: it may start its rings as often as it likes. */
  private tellUntracked({ index, size }: Vring): void {
    if (this.hasToldUntracked) return;
    this.hasToldUntracked = true;
    this.log.warn(
      { ring: index, size },
      "the inflight region has no room for this ring: it is served, but its requests in flight are not recorded for a successor",
    );
  }

  private async stop(vring: Vring, isSuspend = false): Promise<void> {
    if (!vring.isRunning) return;
    vring.base = await (isSuspend ? this.runner.suspend(vring.index) : this.runner.stop(vring.index));
    vring.isRunning = false;
    this.log.debug({ ring: vring.index, base: vring.base }, "ring stopped");
  }

  private async resume(vring: Vring): Promise<void> {
    try {
      await this.settle(vring);
    } catch (error) {
      // Without the seat nothing is wrong with the ring.
      if (!(error instanceof ProtocolError) || !this.seat.isTaken) throw error;
      this.reportBroken(vring.index, error.reason);
    }
  }

  /** Refuses addresses with the request that brought them, if what they must fit is known by then. */
  private checkAddresses(vring: Vring): void {
    if (vring.size === undefined || this.memory.regionCount === 0 || !this.seat.isTaken) return;
    try {
      vring.locate(this.memory, this.format);
    } catch (error) {
      vring.addresses = undefined;
      throw error;
    }
  }
}

function isSame(a: RingAddresses | undefined, b: RingAddresses): boolean {
  return a?.descriptor === b.descriptor && a.available === b.available && a.used === b.used;
}
