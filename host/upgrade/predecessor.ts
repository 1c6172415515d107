// The process in whose place this one is started, as we see it: it serves until we have said that we take over, or until it dies.
import type { Service } from "../backend/service.ts";
import { StartError } from "../errors.ts";
import { setNonBlocking } from "../linux/unix-socket.ts";
import { aborted } from "../process/abort.ts";
import { Channel } from "./channel.ts";
import {
  type Greeting,
  type Offer,
  type Prepared,
  STATE_VERSION,
  type State,
  SUCCESSOR_FD,
  type Taken,
} from "./messages.ts";

/** It has ended, or given us up: nothing here may go on. */
export class PredecessorGone extends StartError {}

export class Predecessor {
  private constructor(
    private readonly channel: Channel,
    readonly offer: Offer,
  ) {}

  /** Undefined: there is none, as ever. Rejects with PredecessorGone. */
  static async find(program: string, release: string): Promise<Predecessor | undefined> {
    const fd = process.env[SUCCESSOR_FD];
    if (fd === undefined) return undefined;
    // Not for those whom we start.
    delete process.env[SUCCESSOR_FD];
    setNonBlocking(Number(fd));
    const channel = new Channel(Number(fd));
    const greeting: Greeting = { stateVersion: STATE_VERSION, program, release };
    await channel.send(greeting).catch(() => {});
    return new Predecessor(channel, await next<Offer>(channel));
  }

  /** Takes over what the predecessor serves. Rejects with why not, or with PredecessorGone, and nothing was done then. */
  async takeOver(services: readonly Service[]): Promise<void> {
    const prepared: Prepared = {};
    await this.channel.send(prepared).catch(() => {});
    const state = await next<State>(this.channel);
    for (const [i, service] of services.entries()) await service.restore(state.services[i]!);
    const taken: Taken = {};
    // From here on it may be gone: it has stopped.
    await this.channel.send(taken).catch(() => {});
    for (const service of services) await service.goOn();
  }

  /** Resolves when the predecessor has died, and what it served is to be served here; or when `stopping` is. */
  async standBy(services: readonly Service[], stopping: AbortSignal): Promise<void> {
    const prepared: Prepared = {};
    await this.channel.send(prepared).catch(() => {});
    await Promise.race([this.ended(), aborted(stopping)]);
    if (stopping.aborted) return;
    for (const service of services) await service.goOn();
  }

  /** We can't. */
  async refuse(failed: string): Promise<void> {
    await this.channel.send({ failed }).catch(() => {});
  }

  /** Resolves when it has ended. */
  async ended(): Promise<void> {
    while ((await this.channel.receive()) !== undefined);
    this.channel.close();
  }
}

async function next<T>(channel: Channel): Promise<T> {
  const message = await channel.receive();
  if (message === undefined) throw new PredecessorGone("the process that this one was started by has ended");
  return message as T;
}
