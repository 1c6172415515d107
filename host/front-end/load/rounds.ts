// The front-end's loop: drives all queues of a guest from one thread, for a time or for a number of requests.
import { performance } from "node:perf_hooks";
import { TURN_FAULT, TURN_KICK, TURN_REAPED } from "../../../assembly/abi/driver.ts";
import { EdgeWait } from "../../linux/edge-wait.ts";
import { addressOf, writeAt } from "../../linux/libc.ts";
import type { DrivenGuest } from "./driven-guest.ts";
import type { RingDriver } from "./ring-driver.ts";

/** "poll" looks at the used rings without end; "sleep" waits for the call, as a guest does that takes interrupts. */
export type Manner = "poll" | "sleep";

const STALL_TIMEOUT_MS = 20_000;
const UNLIMITED = 2 ** 53;

/** Kicks are written by address, the cheapest form of a foreign call. */
const one = new BigUint64Array([1n]);
const oneAddress = addressOf(one);

/** The back-end broke the ring. The message is a phrase. */
export class DeviceFault extends Error {}

export class Rounds {
  kicks = 0;
  sleeps = 0;
  private readonly edge: EdgeWait;

  constructor(
    private readonly driver: RingDriver,
    private readonly guest: DrivenGuest,
    private readonly manner: Manner,
  ) {
    this.edge = new EdgeWait(guest.callFd);
  }

  /** Blocks the thread for so long, and until something has finished, and leaves the requests in flight. */
  runFor(seconds: number): void {
    this.guest.allow(UNLIMITED);
    const end = nowNs() + seconds * 1e9;
    let isAlive = false;
    for (let now = nowNs(); now < end || !isAlive; now = nowNs()) {
      const isBusy = this.turn(now);
      isAlive ||= isBusy;
      if (!isBusy && this.manner === "sleep") this.sleep();
      if (now > end + STALL_TIMEOUT_MS * 1e6) throw new Error("no request finishes");
    }
  }

  /** Blocks the thread until then, by nowNs(), and leaves the requests in flight. Whether anything has finished. */
  runUntil(endNs: number): boolean {
    this.guest.allow(UNLIMITED);
    return this.goOn(endNs, () => false);
  }

  /** The same without starting anything more; ends early once nothing is in flight. */
  drainUntil(endNs: number): boolean {
    this.guest.allow(0);
    return this.goOn(endNs, () => this.guest.inFlight === 0);
  }

  /** Starts so many more in each queue and waits for all that is in flight. */
  finish(requests = 0): void {
    this.guest.allow(requests);
    this.turn(nowNs());
    let before = -1;
    for (let deadline = 0; this.guest.inFlight > 0; ) {
      const now = nowNs();
      const { finished } = this.guest;
      if (finished !== before) deadline = now + STALL_TIMEOUT_MS * 1e6;
      else if (now > deadline) throw new Error(`${this.guest.inFlight} requests don't finish`);
      before = finished;
      if (!this.turn(now) && this.manner === "sleep") this.sleep();
    }
  }

  private goOn(endNs: number, isOver: () => boolean): boolean {
    let isAlive = false;
    for (let now = nowNs(); now < endNs && !isOver(); now = nowNs()) {
      const isBusy = this.turn(now);
      isAlive ||= isBusy;
      if (!isBusy && this.manner === "sleep") this.sleepFor((endNs - now) / 1e6);
    }
    return isAlive;
  }

  close(): void {
    this.edge.close();
  }

  /** Whether anything was used. */
  private turn(now: number): boolean {
    const { queues, kickFds } = this.guest;
    let result = 0;
    for (let i = 0; i < queues.length; i++) {
      const turned = this.driver.calls.turn(queues[i]!, now);
      if (turned & TURN_KICK) {
        writeAt(kickFds[i]!, oneAddress, one.byteLength);
        this.kicks++;
      }
      result |= turned;
    }
    if (result & TURN_FAULT) throw new DeviceFault("it used a chain that was not in flight");
    return (result & TURN_REAPED) !== 0;
  }

  private sleep(): void {
    if (!this.sleepFor(STALL_TIMEOUT_MS)) throw new Error(`no call in ${STALL_TIMEOUT_MS} ms`);
  }

  /** False when no call has come in time. */
  private sleepFor(timeoutMs: number): boolean {
    for (const queue of this.guest.queues) if (!this.driver.calls.enableCalls(queue)) return true;
    this.sleeps++;
    return this.edge.wait(Math.ceil(timeoutMs));
  }
}

export function nowNs(): number {
  return performance.now() * 1e6;
}
