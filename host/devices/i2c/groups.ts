// Requests in groups, as the driver has tied them together: one group at a time, in order, and of each all or nothing.

import { I2C_MESSAGES_MAX } from "../../linux/i2c-dev.ts";
import { type Chain, QueueStopped } from "../device.ts";
import { Request } from "./request.ts";

/** The longest group that a bus takes, and another. */
export const REQUESTS_MAX = 64;

/** Linux offers a group at once, or its beginning, and waits for that, if the ring has no room for all of it. */
const REST_MS = 1000;

/** Nothing is to be done of one that is doomed. */
type Group = { readonly requests: readonly Request[]; readonly isDoomed: boolean };

export class Groups {
  /** Of the group whose rest is to come. */
  private open: Request[] = [];
  /** It is the rest of one that has failed already. */
  private isFailing = false;
  private closed: Group[] = [];
  private running: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private ringSize = 0;

  /** `isDone` does what a group asks for, and never rejects. */
  constructor(private readonly isDone: (requests: readonly Request[]) => Promise<boolean>) {}

  start(ringSize: number): void {
    this.ringSize = ringSize;
    this.isFailing = false;
  }

  /** What has begun ends first, and what has not comes again. The rest of what has failed fails. */
  async stop(): Promise<void> {
    clearTimeout(this.timer);
    const closed = this.closed.splice(0);
    if (this.open.length > 0) closed.push({ requests: this.open.splice(0), isDoomed: this.isFailing });
    for (const { requests, isDoomed } of closed) {
      if (isDoomed) answer(requests, false);
      else for (const { chain } of requests) chain.park();
    }
    await this.running;
  }

  take(chain: Chain): void {
    clearTimeout(this.timer);
    const request = new Request(chain);
    this.open.push(request);
    if (!request.isFollowed) this.close(this.isFailing, false);
    // Its rest can't come before this has been answered.
    else if (this.open.length >= Math.min(I2C_MESSAGES_MAX, this.ringSize)) this.close(true, true);
    else this.goOn();
  }

  private close(isDoomed: boolean, isFailing: boolean): void {
    this.closed.push({ requests: this.open.splice(0), isDoomed });
    this.isFailing = isFailing;
    this.goOn();
  }

  /** With the next group; or waits for its rest, but not while others are before it, for which the driver may be waiting. */
  private goOn(): void {
    if (this.running) return;
    if (this.closed.length > 0) {
      this.running = this.run().finally(() => {
        this.running = undefined;
        this.goOn();
      });
    } else if (this.open.length > 0) this.timer = setTimeout(() => this.close(true, true), REST_MS);
  }

  private async run(): Promise<void> {
    for (let group = this.closed.shift(); group; group = this.closed.shift()) {
      const { requests, isDoomed } = group;
      answer(requests, !isDoomed && (await this.isDone(requests)));
    }
  }
}

/**
 * Without a turn of the event loop in between, so that the driver sees all of them used at once: Linux (6.12) frees a group when one
 * of it has failed, and what were written to the others later would go to memory that is somebody else's by then.
 */
function answer(requests: readonly Request[], isDone: boolean): void {
  for (const request of requests) {
    try {
      if (isDone) request.succeed();
      else request.fail();
    } catch (error) {
      // The ring has not waited for it.
      if (!(error instanceof QueueStopped)) throw error;
    }
  }
}
