// The control queue: commands are done one after the other, and answered when they are; those with a fence in their order, each once what it
// asked for has been drawn (virtio 1.4, 5.7.6.7), since a driver takes a fence for passed when a later one is.
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_GPU_RESP_ERR_UNSPEC } from "../../../assembly/spec/virtio-gpu.ts";
import { Withdrawn } from "../../displays/display.ts";
import type { Chain, ChainReader, DeviceQueue } from "../device.ts";
import { failureOf, type Header, hasFence, type Response, readHeader, respond } from "./messages.ts";

/** Less than a device may take for its stop. */
const STOP_MS = 1500;

export interface Call {
  readonly header: Header;
  readonly request: ChainReader;
  /** The renderer's, where it was asked for one: the answer waits for it. */
  fence?: number;
}

class Pending implements Call {
  readonly header: Header;
  readonly request: ChainReader;
  fence?: number;
  response?: Response;
  isPassed = false;
  /** When the chain has been given back. */
  readonly end: Promise<void>;
  private ended = () => {};
  private isOver = false;

  /** Throws ShortChain. */
  constructor(private readonly chain: Chain) {
    this.header = readHeader(chain.in);
    this.request = chain.in;
    this.end = new Promise((resolve) => {
      this.ended = resolve;
    });
  }

  /** With a failure, if there is no response yet. */
  answer(): void {
    if (this.isOver) return;
    this.isOver = true;
    respond(this.chain, this.header, this.response ?? { type: VIRTIO_GPU_RESP_ERR_UNSPEC });
    this.ended();
  }

  park(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.chain.park();
    this.ended();
  }
}

export class ControlQueue {
  private turn: Promise<void> = Promise.resolve();
  /** Those that were not begun. */
  private readonly queued = new Set<Chain>();
  /** Of commands with a fence. */
  private readonly waiting: Pending[] = [];
  private current: Pending | undefined;
  private whenAnswered = () => {};

  constructor(private readonly perform: (call: Call) => Response | Promise<Response>) {}

  /** `concurrency`: of commands whose fences have not been passed. */
  start(queue: DeviceQueue, concurrency: number): void {
    queue.serve((chain) => this.take(chain), { concurrency });
  }

  /** What has not been drawn in time is answered all the same: done twice it would harm. */
  async stop(): Promise<void> {
    for (const chain of this.queued) chain.park();
    this.queued.clear();
    const answered = this.turn.then(() => this.allAnswered());
    await Promise.race([answered, sleep(STOP_MS, undefined, { ref: false })]);
    const { current } = this;
    for (const pending of this.waiting.splice(0)) pending.answer();
    current?.answer();
  }

  /** This fence has been, and so have all before it. */
  passed(fence: number): void {
    const last = this.waiting.findIndex((each) => each.fence === fence);
    for (const each of this.waiting.slice(0, last + 1)) each.isPassed = true;
    this.answerPassed();
  }

  /** Nobody will tell of fences any more. */
  passAll(): void {
    for (const each of this.waiting) each.isPassed = true;
    this.answerPassed();
  }

  private take(chain: Chain): Promise<void> {
    this.queued.add(chain);
    const done = this.turn.then(() => this.serve(chain));
    this.turn = done.then(
      () => {},
      () => {},
    );
    return done.then((pending) => pending?.end);
  }

  /** Whose answer is still to come, if anybody's. */
  private async serve(chain: Chain): Promise<Pending | undefined> {
    if (!this.queued.delete(chain)) return undefined;
    const pending = new Pending(chain);
    const isFenced = hasFence(pending.header);
    if (isFenced) this.waiting.push(pending);
    this.current = pending;
    try {
      pending.response = await this.perform(pending);
    } catch (error) {
      this.fail(pending, error);
    } finally {
      this.current = undefined;
    }
    if (!isFenced) pending.answer();
    this.answerPassed();
    return pending;
  }

  /** Throws what is no answer: the chain is given back elsewhere then. */
  private fail(pending: Pending, error: unknown): void {
    delete pending.fence;
    try {
      if (error instanceof Withdrawn) pending.park();
      else pending.response = failureOf(error);
    } finally {
      const at = pending.response ? -1 : this.waiting.indexOf(pending);
      if (at >= 0) this.waiting.splice(at, 1);
    }
  }

  private answerPassed(): void {
    for (let first = this.waiting[0]; first?.response; first = this.waiting[0]) {
      if (first.fence !== undefined && !first.isPassed) break;
      this.waiting.shift();
      first.answer();
    }
    if (this.waiting.length === 0) this.whenAnswered();
  }

  private allAnswered(): Promise<void> {
    if (this.waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.whenAnswered = resolve;
    });
  }
}
