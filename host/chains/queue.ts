// One ring's queue as its device sees it: hands out chains, and tells the core how many more the device wants.

import { type Chain, type DeviceQueue, type QueueSpec, QueueStopped, ShortChain } from "../devices/device.ts";
import { PATIENCE_MS } from "../devices/patience.ts";
import { EIO } from "../linux/errno.ts";
import type { Log } from "../process/log.ts";
import { type ChainBuffers, DeviceChain, HeldChain } from "./chain.ts";

/** How many more chains the core may take from the ring. */
export interface Credit {
  set(count: number): void;
  add(count: number): void;
}

/** How a chain goes to its device: as any other; or unless a predecessor had begun with it, to be answered with a failure. */
export type Arrival = "serve" | "fail";

type Handler = (chain: Chain) => void | Promise<void>;

interface Taker {
  resolve(chain: Chain): void;
  reject(reason: Error): void;
}

/** Kinds of exceptions to remember, for a device that makes up new ones. */
const KINDS_MAX = 64;

export class ChainQueue implements DeviceQueue {
  isStopping = false;
  private handler: Handler | undefined;
  private available: (() => void) | undefined;
  /** Chains that nobody has taken yet, and those who wait for one. */
  private readonly ready: HeldChain[] = [];
  private readonly takers: Taker[] = [];
  /** All that were not given back yet. */
  private readonly held = new Set<HeldChain>();
  private patience: NodeJS.Timeout | undefined;
  /** Chains that the core was asked for by take() or tryTake() and has not brought. */
  private asked = 0;
  private readonly told = new Set<string>();
  /** Chains that were handed out in this turn of the event loop: most of them come back in it. */
  private fresh: DeviceChain[] = [];
  /** A device that forgets a chain would keep its ring from ever stopping. */
  private readonly losses = new FinalizationRegistry<HeldChain>((held) => this.lose(held));

  constructor(
    readonly index: number,
    readonly size: number,
    private readonly spec: QueueSpec,
    private readonly credit: Credit,
    private readonly log: Log,
  ) {}

  serve(handle: Handler, { concurrency = 1 }: { concurrency?: number } = {}): void {
    if (this.handler || this.available || this.takers.length > 0) throw new Error(this.isTakenTwice());
    if (!(concurrency >= 1)) throw new RangeError(`${this.spec.name}: a concurrency of ${concurrency}`);
    if (this.isStopping) return;
    this.handler = handle;
    this.credit.set(Math.min(concurrency, this.size));
  }

  take(): Promise<Chain> {
    if (this.handler) throw new Error(this.isTakenTwice());
    if (this.isStopping) return Promise.reject(new QueueStopped(`${this.spec.name} has stopped`));
    const held = this.ready.shift();
    if (held) return Promise.resolve(this.handOut(held));
    return new Promise((resolve, reject) => {
      this.takers.push({ resolve, reject });
      this.ask(this.takers.length);
    });
  }

  tryTake(ahead = 1): Chain | undefined {
    if (this.handler) throw new Error(this.isTakenTwice());
    if (this.isStopping) return undefined;
    const held = this.ready.shift();
    if (held) return this.handOut(held);
    this.ask(this.takers.length + Math.min(ahead, this.size));
    return undefined;
  }

  onAvailable(available: () => void): void {
    if (this.handler) throw new Error(this.isTakenTwice());
    this.available = available;
  }

  /** The core has taken a chain. `answer` is to get its CQE's result. */
  arrive(buffers: ChainBuffers, arrival: Arrival, answer: (result: number) => void): HeldChain {
    const held = new HeldChain(buffers, this, answer);
    if (arrival === "fail") this.failLeftover(held);
    else if (this.handler) this.run(this.handler, held);
    else this.offer(held);
    if (held.isHeld) this.held.add(held);
    return held;
  }

  answered(held: HeldChain, result: number): void {
    this.held.delete(held);
    if (this.held.size === 0) clearTimeout(this.patience);
    held.answer(result);
    if (this.handler && !this.isStopping) this.credit.add(1);
  }

  /** Takes no more chains, and parks those that the device does not know of. */
  stop(): void {
    this.isStopping = true;
    this.credit.set(0);
    for (const held of this.ready.splice(0)) held.park();
    for (const { reject } of this.takers.splice(0)) reject(new QueueStopped(`${this.spec.name} has stopped`));
  }

  /** The device has stopped. A front-end waits for the chains that it holds all the same, but not for ever. */
  awaitRest(): void {
    if (this.held.size > 0) this.patience = setTimeout(() => this.takeBack(), PATIENCE_MS);
  }

  private takeBack(): void {
    const queue = this.spec.name;
    this.log.error({ queue, chains: this.held.size }, "the device held chains when its queue had to stop");
    for (const held of this.held) held.parkInstead();
    if (this.held.size === 0) return;
    this.log.error(
      { queue, chains: this.held.size },
      "the device has guest memory in its hands: the front-end waits until it has used these chains",
    );
  }

  private ask(count: number): void {
    if (this.asked >= count) return;
    this.credit.add(count - this.asked);
    this.asked = count;
  }

  private handOut(held: HeldChain): Chain {
    const chain = new DeviceChain(held);
    if (this.fresh.length === 0) setImmediate(() => this.watchForLoss());
    this.fresh.push(chain);
    return chain;
  }

  /** To be watched costs more than all else that is done for a chain. */
  private watchForLoss(): void {
    for (const chain of this.fresh) if (chain.held.isHeld) this.losses.register(chain, chain.held);
    this.fresh = [];
  }

  private run(handler: Handler, held: HeldChain): void {
    try {
      const end = handler(this.handOut(held));
      if (end === undefined) return;
      end.then(
        () => held.isHeld && this.fail(held, new Error("a handler has ended without using its chain")),
        (error) => this.fail(held, error),
      );
    } catch (error) {
      this.fail(held, error);
    }
  }

  private offer(held: HeldChain): void {
    this.asked = Math.max(0, this.asked - 1);
    const taker = this.takers.shift();
    if (taker) {
      taker.resolve(this.handOut(held));
      return;
    }
    this.ready.push(held);
    try {
      this.available?.();
    } catch (error) {
      this.tell(error);
    }
  }

  /** What took the leftover's place in the ring is still wanted. */
  private failLeftover(held: HeldChain): void {
    this.answerFailure(held);
    if (!this.handler && this.asked > 0) this.credit.add(1);
  }

  /** An exception of the device's: the chain's end, unless it has come to one. */
  private fail(held: HeldChain, error: unknown): void {
    if (error instanceof QueueStopped && !held.isHeld) return;
    this.tell(error);
    this.answerFailure(held);
  }

  private answerFailure(held: HeldChain): void {
    if (!held.isHeld) return;
    try {
      held.beginFailure();
      this.spec.fail?.(new DeviceChain(held));
    } catch (error) {
      this.tell(error);
    }
    if (held.isHeld) held.fail(-EIO);
  }

  private lose(held: HeldChain): void {
    if (held.isHeld) this.fail(held, new Error("a chain was lost: neither used nor parked"));
  }

  /** Once a kind: by where in the device it came from, since messages may have the guest's numbers in them. */
  private tell(error: unknown): void {
    const { name = "", stack = "" } = (error ?? {}) as Partial<Error>;
    const kind = name + (stack.split("\n").find((line) => line.startsWith("    at ")) ?? String(error));
    if (this.told.has(kind) || this.told.size >= KINDS_MAX) return;
    this.told.add(kind);
    const queue = this.spec.name;
    if (error instanceof ShortChain)
      this.log.warn({ queue, reason: error.message }, "the driver's chain is too short");
    else this.log.error({ queue, err: error }, "the device has failed a request");
  }

  private isTakenTwice(): string {
    return `${this.spec.name} is served already: use either serve() once, or take() and tryTake()`;
  }
}
