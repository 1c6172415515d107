// `GET /v1/events`: what happens, as server-sent events, for as long as a client listens. They are the lines of the log, debug lines
// excepted, before any are left out. Described in schema/control.openapi.json.
import type { ServerResponse } from "node:http";
import type { LogLevel } from "../process/log.ts";
import type { LogEntry } from "../process/log-limiter.ts";
import { eventName } from "./event-names.ts";
import { RequestError } from "./http-server.ts";

/** The data of an event. */
export interface Event {
  /** Counts up from 1. */
  id: number;
  /** Milliseconds since 1970. */
  time: number;
  event: string;
  level: LogLevel;
  /** A sentence, and what belongs to it. */
  message: string;
  fields: Record<string, unknown>;
}

/** Fewer than the server has connections, so that others can ask, too. */
const LISTENERS_MAX = 8;
/** Events that are kept for those who come back. */
const HISTORY = 256;
/** What a listener may leave untaken before events are skipped. */
const BACKLOG_MAX = 64 << 10;
const EVENT_MAX = 8192;
const BEAT_MS = 5000;
/** Beats in a row that find something untaken before the listener is given up. */
const STUCK_BEATS = 6;

interface Frame {
  id: number;
  text: string;
}

export class Events {
  private readonly listeners = new Set<Listener>();
  private readonly history: Frame[] = [];
  private lastId = 0;
  private timer: NodeJS.Timeout | undefined;

  add({ level, sentence, fields }: LogEntry): void {
    const id = ++this.lastId;
    const event = { id, time: Date.now(), event: eventName(sentence), level, message: sentence, fields };
    const frame = { id, text: encode(event) };
    this.history.push(frame);
    if (this.history.length > HISTORY) this.history.shift();
    for (const listener of this.listeners) listener.send(frame.text);
  }

  /** What makes a listener of a response: first it gets what came after `lastEventId`, if it names one. */
  listener(lastEventId: string | string[] | undefined): (response: ServerResponse) => void {
    if (this.listeners.size >= LISTENERS_MAX) {
      throw new RequestError(503, `${LISTENERS_MAX} listen already; try again when one has left`);
    }
    const missed = this.missedSince(lastEventId);
    return (response) => {
      const listener = new Listener(response);
      this.listeners.add(listener);
      response.once("close", () => {
        this.listeners.delete(listener);
        if (this.listeners.size === 0) this.endBeat();
      });
      listener.begin(missed);
      this.timer ??= setInterval(() => this.beat(), BEAT_MS).unref();
    };
  }

  close(): void {
    this.endBeat();
    for (const listener of this.listeners) listener.end();
  }

  private missedSince(lastEventId: string | string[] | undefined): { frames: Frame[]; count: number } {
    const isNumber = typeof lastEventId === "string" && /^\d{1,15}$/.test(lastEventId);
    if (!isNumber) return { frames: [], count: 0 };
    // A number that is yet to come is a predecessor's: then all is new.
    const last = Number(lastEventId) > this.lastId ? 0 : Number(lastEventId);
    const frames = this.history.filter(({ id }) => id > last);
    return { frames, count: this.lastId - last - frames.length };
  }

  private beat(): void {
    for (const listener of this.listeners) listener.beat();
  }

  private endBeat(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }
}

/** One client. What it doesn't take is skipped, and counted; if it takes nothing for long, it is given up. */
class Listener {
  private skipped = 0;
  private stuckBeats = 0;

  constructor(private readonly response: ServerResponse) {
    response.on("drain", () => {
      this.stuckBeats = 0;
    });
  }

  begin({ frames, count }: { frames: readonly Frame[]; count: number }): void {
    this.response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    // Whoever connects sees that it listens.
    this.response.write(": these are events\n\n");
    this.skipped = count;
    for (const { text } of frames) this.send(text);
    this.tellSkipped();
  }

  send(text: string): void {
    if (this.response.writableLength > BACKLOG_MAX) {
      this.skipped++;
      return;
    }
    this.tellSkipped();
    this.response.write(text);
  }

  beat(): void {
    if (this.response.writableLength === 0) {
      this.stuckBeats = 0;
      this.tellSkipped();
      this.response.write(": still here\n\n");
    } else if (++this.stuckBeats >= STUCK_BEATS) this.response.destroy();
  }

  end(): void {
    this.tellSkipped();
    this.response.end();
  }

  private tellSkipped(): void {
    if (this.skipped === 0 || this.response.writableLength > BACKLOG_MAX) return;
    this.response.write(`event: skipped\ndata: {"event":"skipped","count":${this.skipped}}\n\n`);
    this.skipped = 0;
  }
}

function encode(event: Event): string {
  const whole = JSON.stringify(event, plain);
  const data = whole.length <= EVENT_MAX ? whole : JSON.stringify({ ...event, fields: { tooLong: true } });
  return `id: ${event.id}\nevent: ${event.event}\ndata: ${data}\n\n`;
}

/** What JSON has no form for. */
function plain(_: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  return value instanceof Error ? value.message : value;
}
