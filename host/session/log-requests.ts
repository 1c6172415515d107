// Requests that have what we write to guest memory logged, for a front-end that moves its guest while that runs (vhost-user, "Migration").
import { ProtocolError } from "../errors.ts";
import { Descriptor, descriptorOf } from "../linux/descriptor.ts";
import { isNotifier } from "../linux/eventfd.ts";
import { close } from "../linux/libc.ts";
import { signalPeer } from "../linux/peer-notifier.ts";
import { checkLog, checkReach, type DirtyLog, type LogDescription } from "../memory/dirty-log.ts";
import * as codec from "../protocol/codec.ts";
import type { Message } from "../protocol/connection.ts";
import type { DataPlane } from "../workers/data-plane.ts";
import type { SessionMemory } from "./memory-requests.ts";
import { asFrontEnds, type Payload } from "./request.ts";
import type { SessionSeat } from "./seat.ts";
import type { LogState } from "./session-state.ts";
import { NO_FD } from "./vring.ts";

export type SessionLog = Pick<DirtyLog, "set" | "clear">;
export type LogRunner = Pick<DataPlane, "setLogging">;

/** How often whoever has sent an eventfd for it is told to look at the log. The text asks for no more than that it is signalled. */
const SIGNAL_MS = 100;

const NO_LOG = "there is no log: SET_LOG_BASE must bring one first";

export class LogRequests {
  private sent: { description: LogDescription; fd: number } | undefined;
  /** Why there is none. */
  private fault = NO_LOG;
  /** Whether VHOST_F_LOG_ALL was negotiated: the guest is being moved. */
  isOn = false;
  private callFd = NO_FD;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly log: SessionLog,
    private readonly runner: LogRunner,
    private readonly memory: Pick<SessionMemory, "guestEnd">,
    private readonly seat: Pick<SessionSeat, "isTaken">,
    /** Ends the connection once the request at hand is answered. */
    private readonly leave: () => void,
  ) {}

  /**
   * At any time, also while what is written is logged. QEMU does not look at the answer: what is wrong is told again when it wants the
   * log to be used, or else the connection ends, before anything is written that nobody would log.
   */
  setLogBase(message: Message): Payload {
    const fd = message.fds.pop()!;
    try {
      const description = codec.decodeLog(message);
      asFrontEnds("SET_LOG_BASE", () => checkLog(description, fd, this.memory.guestEnd));
      if (this.seat.isTaken) this.log.set(description, fd);
      this.keep({ description, fd });
    } catch (error) {
      close(fd);
      this.fault = error instanceof ProtocolError ? error.reason : String((error as Error).message);
      this.keep(undefined);
      if (this.isOn) this.leave();
      throw error;
    }
    return codec.encodeU64(0n);
  }

  setLogFd(message: Message): void {
    const fd = message.fds.pop() ?? NO_FD;
    if (fd !== NO_FD && !isNotifier(fd)) {
      close(fd);
      throw new ProtocolError("SET_LOG_FD", "no eventfd, pipe or socket");
    }
    if (this.callFd !== NO_FD) close(this.callFd);
    this.callFd = fd;
    this.watch();
  }

  /** As VHOST_F_LOG_ALL was negotiated. Resolves when all workers do so. Throws ProtocolError where there is nothing to log in. */
  async negotiate(isOn: boolean): Promise<void> {
    if (isOn === this.isOn) return;
    if (isOn) this.checkSent();
    this.isOn = isOn;
    if (this.seat.isTaken) await this.runner.setLogging(isOn);
    if (!isOn) this.forget();
    this.watch();
  }

  /** What is logged so far may be looked at. */
  signal(): void {
    if (this.isOn && this.callFd !== NO_FD) signalPeer(this.callFd);
  }

  /** Before any ring starts: workers do what they are told in order. */
  seated(): void {
    if (this.sent !== undefined) this.log.set(this.sent.description, this.sent.fd);
    if (this.isOn) void this.runner.setLogging(true);
  }

  /** After all rings have stopped: nothing more is written until others start. */
  unseated(): void {
    if (this.isOn) void this.runner.setLogging(false);
    this.log.clear();
  }

  save(): LogState {
    const { sent, fault, isOn } = this;
    const file = sent && { description: sent.description, file: new Descriptor(sent.fd) };
    return { sent: file, fault, isOn, call: descriptorOf(this.callFd) };
  }

  /** As a predecessor has left it. Takes the descriptors. What is on goes on when the front-end takes its seat. */
  restore({ sent, fault, isOn, call }: LogState): void {
    this.sent = sent && { description: sent.description, fd: sent.file.fd };
    this.fault = fault;
    this.isOn = isOn;
    this.callFd = call?.fd ?? NO_FD;
    this.watch();
  }

  async end(): Promise<void> {
    await this.negotiate(false);
    this.forget();
    if (this.callFd !== NO_FD) close(this.callFd);
    this.callFd = NO_FD;
    this.watch();
  }

  private checkSent(): void {
    const { sent } = this;
    if (sent === undefined) throw new ProtocolError("SET_FEATURES", `VHOST_F_LOG_ALL: ${this.fault}`);
    asFrontEnds("SET_FEATURES", () => checkReach(sent.description.mmapSize, this.memory.guestEnd));
  }

  /** The next migration brings its own. */
  private forget(): void {
    this.keep(undefined);
    this.fault = NO_LOG;
    if (this.seat.isTaken) this.log.clear();
  }

  private keep(sent: typeof this.sent): void {
    if (this.sent !== undefined) close(this.sent.fd);
    this.sent = sent;
  }

  private watch(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    if (!this.isOn || this.callFd === NO_FD) return;
    this.timer = setInterval(() => this.signal(), SIGNAL_MS).unref();
  }
}
