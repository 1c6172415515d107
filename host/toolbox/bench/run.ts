// The time of the load itself: in slices, so that signals, a back-end that goes away, and the live line have their turn.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Attachment } from "../../front-end/load/attachment.ts";
import type { Latencies } from "../../front-end/load/driven-guest.ts";
import { nowNs, type Rounds } from "../../front-end/load/rounds.ts";
import { isHungUp } from "../../linux/readiness.ts";

/** Why it ended: as planned, by a signal, or since the back-end has gone or does nothing any more. */
export type Ending = "time" | NodeJS.Signals | "gone" | "stalled";

export interface Measured {
  seconds: number;
  latencies: Latencies;
  failures: number;
  ending: Ending;
  /** Requests that were in flight at the end and did not finish, however long we waited. */
  abandoned: number;
}

const SLICE_NS = 50e6;
const STALL_NS = 20e9;
const DRAIN_NS = 10e9;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** `watch` is called after each slice. */
export async function run(
  attachment: Attachment,
  rounds: Rounds,
  seconds: number,
  watch: (elapsedNs: number) => void,
): Promise<Measured> {
  const { guest, frontEnd } = attachment;
  using signals = new SignalWatch();
  const start = nowNs();
  const end = start + seconds * 1e9;
  let lastAlive = start;
  let ending: Ending | undefined;
  let now = start;
  while (ending === undefined) {
    const isAlive = rounds.runUntil(Math.min(now + SLICE_NS, end));
    now = nowNs();
    if (isAlive) lastAlive = now;
    watch(now - start);
    await nextTurn();
    if (signals.seen !== undefined) ending = signals.seen;
    else if (isHungUp(frontEnd.connection.fd)) ending = "gone";
    else if (now - lastAlive > STALL_NS) ending = "stalled";
    else if (now >= end) ending = "time";
  }
  const measured = { seconds: (now - start) / 1e9, latencies: guest.latencies(), failures: guest.failures };
  if (ending !== "gone" && ending !== "stalled") await drain(attachment, rounds, signals);
  return { ...measured, ending, abandoned: guest.inFlight };
}

/** What is in flight comes to its end, and is not counted. A second signal ends the wait. */
async function drain({ guest, frontEnd }: Attachment, rounds: Rounds, signals: SignalWatch): Promise<void> {
  const end = nowNs() + DRAIN_NS;
  signals.seen = undefined;
  while (
    guest.inFlight > 0 &&
    nowNs() < end &&
    signals.seen === undefined &&
    !isHungUp(frontEnd.connection.fd)
  ) {
    rounds.drainUntil(nowNs() + SLICE_NS);
    await nextTurn();
  }
}

class SignalWatch implements Disposable {
  seen: NodeJS.Signals | undefined;
  private readonly note = (signal: NodeJS.Signals) => {
    this.seen = signal;
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.note);
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.note);
  }
}
