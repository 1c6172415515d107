// An event device that may be unplugged, and comes back at the same path. It knows nothing of who hears its events.
import { isDeepStrictEqual } from "node:util";
import { reasonOf, StartError } from "../errors.ts";
import { EventDevice, type InputDescription, type InputEvent } from "../linux/evdev.ts";
import {
  EV_KEY,
  EV_LED,
  EV_REP,
  EV_SND,
  EV_SYN,
  SYN_DROPPED,
  SYN_REPORT,
} from "../linux/input-event-codes.ts";
import { whenReadable } from "../linux/readiness.ts";
import { choice } from "../process/choices.ts";
import type { Log } from "../process/log.ts";

/** How soon it is looked for again. */
const RETRY_MS = 1000;

/** What is written to a device comes back from it, and is no news to whoever wrote it. */
const WRITTEN_TYPES = [EV_LED, EV_SND, EV_REP];
const REPEATED = 2;

export interface DeviceListener {
  /** Keys that the kernel repeats are left out: whoever knows that a device repeats keys does it itself. */
  next(event: InputEvent): void;
  /** Events were missed, or there is no device any more: its state is this. */
  became(state: readonly InputEvent[]): void;
}

/** What is asked of an EventDevice. */
export type OpenDevice = Pick<
  EventDevice,
  "fd" | "describe" | "state" | "keysDown" | "grab" | "read" | "write" | "close"
>;

export class PluggedDevice {
  readonly description: InputDescription;
  private device: OpenDevice | undefined;
  private listener: DeviceListener | undefined;
  private returned = () => {};
  private log: Log | undefined;
  private watch: { stop(): void } | undefined;
  private retry: NodeJS.Timeout | undefined;
  /** Why it could not be had again when it was looked for last. */
  private reason = "";
  /** The kernel has dropped events: up to the next SYN_REPORT the rest of theirs comes (EV_SYN of event-codes.rst). */
  private isAmiss = false;
  private isGrabDue = false;
  /** Until it is grabbed. Everybody else would believe for ever that a key is down which was so at that moment. */
  private down = new Set<number>();

  private constructor(
    device: OpenDevice,
    private readonly path: string,
    private readonly isGrabbed: boolean,
    private readonly openAgain: (path: string) => OpenDevice,
  ) {
    this.description = device.describe();
    this.takeUp(device);
  }

  /** `isGrabbed`: nobody else hears its events. Throws StartError. */
  static open(
    path: string,
    isGrabbed: boolean,
    open: (path: string) => OpenDevice = EventDevice.open,
  ): PluggedDevice {
    let device: OpenDevice | undefined;
    try {
      device = open(path);
      return new PluggedDevice(device, path, isGrabbed, open);
    } catch (error) {
      device?.close();
      throw new StartError(sentenceOf(path, error as NodeJS.ErrnoException));
    }
  }

  /** Once. `returned`: it has been plugged in again, and knows nothing of what was written to it. */
  listen(listener: DeviceListener, returned: () => void, log: Log): void {
    this.listener = listener;
    this.returned = returned;
    this.log = log;
    this.begin();
  }

  /** Dropped while there is no device. */
  write(event: InputEvent): void {
    try {
      this.device?.write(event);
    } catch (error) {
      this.log?.warn(
        { path: this.path, reason: reasonOf(error) },
        "the device does not take what it is told",
      );
    }
  }

  close(): void {
    clearTimeout(this.retry);
    this.leave();
  }

  private takeUp(device: OpenDevice): void {
    this.isAmiss = false;
    this.isGrabDue = this.isGrabbed;
    this.down = new Set(device.keysDown());
    this.grabOnceIdle(device);
    this.device = device;
  }

  private begin(): void {
    this.listener!.became(this.device!.state());
    this.watch = whenReadable(this.device!.fd, () => this.pass());
  }

  private leave(): void {
    this.watch?.stop();
    this.device?.close();
    this.device = undefined;
  }

  private grabOnceIdle(device: OpenDevice): void {
    if (!this.isGrabDue || this.down.size > 0) return;
    device.grab();
    this.isGrabDue = false;
  }

  private pass(): void {
    try {
      for (const event of this.device!.read()) this.take(event);
      this.grabOnceIdle(this.device!);
    } catch (error) {
      this.log?.warn({ path: this.path, reason: reasonOf(error) }, "the device has gone: it is waited for");
      this.leave();
      this.listener?.became([]);
      this.lookLater();
    }
  }

  private take(event: InputEvent): void {
    const { type, code, value } = event;
    const isLast = this.isAmiss && type === EV_SYN && code === SYN_REPORT;
    if (isLast) this.recover();
    else if (type === EV_SYN && code === SYN_DROPPED) this.isAmiss = true;
    else if (!this.isAmiss) {
      if (type === EV_KEY && value > 0) this.down.add(code);
      if (type === EV_KEY && value === 0) this.down.delete(code);
      const isRepeated = type === EV_KEY && value === REPEATED && this.description.codes.has(EV_REP);
      if (!isRepeated && !WRITTEN_TYPES.includes(type)) this.listener?.next(event);
    }
  }

  private recover(): void {
    const state = this.device!.state();
    this.isAmiss = false;
    this.down = new Set(state.filter(({ type }) => type === EV_KEY).map(({ code }) => code));
    this.listener?.became(state);
  }

  private lookLater(): void {
    this.retry = setTimeout(() => this.look(), RETRY_MS).unref();
  }

  private look(): void {
    let device: OpenDevice | undefined;
    try {
      device = this.openAgain(this.path);
      if (!isDeepStrictEqual(device.describe(), this.description)) throw new Error("another device is there");
      this.takeUp(device);
      this.begin();
      this.returned();
      this.reason = "";
      this.log?.info({ path: this.path }, "the device is back");
    } catch (error) {
      device?.close();
      this.device = undefined;
      this.tellWhy(error as NodeJS.ErrnoException);
      this.lookLater();
    }
  }

  /** Once a reason. That there is nothing is no news. */
  private tellWhy(error: NodeJS.ErrnoException): void {
    const reason = reasonOf(error);
    if (reason !== this.reason && error.code !== "ENOENT")
      this.log?.warn({ path: this.path, reason }, "the device can't be had again yet");
    this.reason = reason;
  }
}

function sentenceOf(path: string, error: NodeJS.ErrnoException): string {
  if (error.code === "ENOTTY") return `${path} is no event device; give one of /dev/input/event*`;
  if (error.code === "EBUSY")
    return `another program keeps the events of ${path} for itself; end it, or say ${choice("noGrab")}`;
  if (error.code === "EACCES")
    return `can't open ${path}: ${reasonOf(error)}; its group, such as input, may do so`;
  return `can't open ${path}: ${reasonOf(error)}`;
}
