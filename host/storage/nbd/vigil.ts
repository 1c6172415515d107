// Notices that a server doesn't answer any more. A host without power, or a process that is stopped, closes no connection.
import { ConnectionError } from "./errors.ts";

/** Ticks of a timer, so that a time in which we were stopped ourselves counts as one. */
const TICKS = 8;
const SILENCE_MIN_MS = 2000;
/** Where requests shall fail as soon as the server is lost, which says nothing of how long an answer may take. */
const SILENCE_OTHERWISE_MS = 30_000;
/** So many silences the oldest request may take while others are answered: it may be a large one, or forgotten. */
const SILENCES_A_REQUEST = 10;

/** There is a connection, but no answer. */
export class SilenceError extends ConnectionError {}

/** How long a server may say nothing while requests wait: half the time that they have, so that another may answer them. */
export function silenceOf(reconnectTimeoutMs: number): number {
  if (reconnectTimeoutMs === 0) return SILENCE_OTHERWISE_MS;
  return Math.max(reconnectTimeoutMs / 2, SILENCE_MIN_MS);
}

/** After which time a request is given up, however often it was sent and whatever else is answered. */
export function requestLimitOf(reconnectTimeoutMs: number): number {
  return SILENCES_A_REQUEST * silenceOf(reconnectTimeoutMs);
}

export interface Watched {
  /** Grows with whatever comes from the server. */
  readonly activity: number;
  /** Of the request that has waited for longest; undefined if none waits. */
  readonly oldestCookie: number | undefined;
  ended(reason: ConnectionError): void;
}

export class Vigil {
  private timer: NodeJS.Timeout | undefined;
  private activity = 0;
  private oldestCookie: number | undefined;
  private silentTicks = 0;
  private oldestTicks = 0;

  constructor(
    private readonly watched: Watched,
    private readonly silenceMs: number,
  ) {}

  /** A request waits from now on. */
  begin(): void {
    if (this.timer) return;
    this.activity = this.watched.activity;
    this.oldestCookie = undefined;
    this.silentTicks = 0;
    this.timer = setInterval(() => this.tick(), this.silenceMs / TICKS);
    this.timer.unref();
  }

  end(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private tick(): void {
    const { activity, oldestCookie } = this.watched;
    if (oldestCookie === undefined) {
      this.end();
      return;
    }
    this.silentTicks = activity === this.activity ? this.silentTicks + 1 : 0;
    this.oldestTicks = oldestCookie === this.oldestCookie ? this.oldestTicks + 1 : 0;
    this.activity = activity;
    this.oldestCookie = oldestCookie;
    const seconds = this.silenceMs / 1000;
    if (this.silentTicks >= TICKS) {
      this.watched.ended(new SilenceError(`the server has answered nothing for ${seconds} s`));
    } else if (this.oldestTicks >= TICKS * SILENCES_A_REQUEST) {
      const limit = seconds * SILENCES_A_REQUEST;
      this.watched.ended(new SilenceError(`the server has left a request unanswered for ${limit} s`));
    }
  }
}
