// Front-ends that listen: connects to one, and when it has gone, to the next at the same path.
import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf } from "../errors.ts";
import { close, SystemError } from "../linux/libc.ts";
import { connectUnix, isAbstract, isPeerTrusted } from "../linux/unix-socket.ts";
import type { Log } from "../process/log.ts";
import { Connection } from "./connection.ts";
import { checkSocketPath, type FrontEnds } from "./listener.ts";

/** Between two attempts; each that fails, or is soon over, doubles it. */
const RETRY_LEAST_MS = 50;
const RETRY_MOST_MS = 2000;
/** A front-end that stayed as long was one. */
const LASTING_MS = 1000;

const FOREIGN = "another user listens there, which an abstract name can't prevent";

export class Connector implements FrontEnds {
  /** A front-end that listens is asked for one connection, and would not answer another. */
  readonly atOnce = 1;
  private readonly closing = new AbortController();
  private isHeld = false;
  private retryMs = 0;
  private connectedMs = Number.NEGATIVE_INFINITY;
  private lastReason: string | undefined;

  constructor(
    private readonly path: string,
    private readonly log: Log,
    private readonly least = RETRY_LEAST_MS,
  ) {
    checkSocketPath(path);
  }

  async next(): Promise<Connection | undefined> {
    if (performance.now() - this.connectedMs > LASTING_MS) this.retryMs = 0;
    while (await this.pause()) {
      if (this.isHeld) continue;
      const fd = this.connect();
      if (fd === undefined) continue;
      this.lastReason = undefined;
      this.connectedMs = performance.now();
      return new Connection(fd);
    }
    return undefined;
  }

  close(): void {
    this.closing.abort();
  }

  hold(): void {
    this.isHeld = true;
  }

  release(): void {
    this.isHeld = false;
  }

  /** False when there is nothing more to wait for. */
  private async pause(): Promise<boolean> {
    const { signal } = this.closing;
    const waitMs = this.retryMs;
    this.retryMs = Math.min(Math.max(2 * waitMs, this.least), RETRY_MOST_MS);
    if (waitMs > 0) await sleep(waitMs, undefined, { signal }).catch(() => {});
    return !signal.aborted;
  }

  private connect(): number | undefined {
    try {
      const fd = connectUnix(this.path);
      if (!isAbstract(this.path) || isPeerTrusted(fd)) return fd;
      close(fd);
      this.tellOnce(FOREIGN);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.tellOnce(reasonOf(error));
    }
    return undefined;
  }

  /** Once for each reason in a row: nobody knows when the front-end comes. */
  private tellOnce(reason: string): void {
    if (reason !== this.lastReason) this.log.info({ connect: this.path, reason }, "waiting for a front-end");
    this.lastReason = reason;
  }
}
