// One ring of a fuzzed device: the product's own queue, over a core that is played here. It gives chains only for credit, takes
// parked ones again first, and holds the device to the rules of a chain.
import assert from "node:assert/strict";
import { CHAIN_PARKED } from "../../../assembly/abi/chain.ts";
import { ECANCELED } from "../../../assembly/spec/io-uring.ts";
import type { HeldChain } from "../../../host/chains/chain.ts";
import { ChainQueue } from "../../../host/chains/queue.ts";
import type { VirtioDevice } from "../../../host/devices/device.ts";
import type { Log } from "../../../host/process/log.ts";
import { until } from "../../support/until.ts";
import type { GuestChain } from "./guest-chain.ts";

/** Whoever has been told to stop has as long as this, on a busy machine too. */
const STOP_MS = 20_000;

export class FakeRing {
  used = 0;
  failed = 0;
  private fault: unknown;
  private queue: ChainQueue | undefined;
  private credit = 0;
  private isStopping = false;
  private isPumpDue = false;
  /** They come first, and to be failed where the queue says so. */
  private leftovers: GuestChain[] = [];
  private parked: GuestChain[] = [];
  private offered: GuestChain[] = [];
  private readonly held = new Map<GuestChain, HeldChain | undefined>();

  constructor(
    private readonly device: VirtioDevice,
    readonly index: number,
    readonly size: number,
    private readonly log: Log,
  ) {}

  get isRunning(): boolean {
    return this.queue !== undefined;
  }

  get takesAll(): boolean {
    return this.spec.credit === "all";
  }

  /** Chains in the ring, taken or not. */
  get outstanding(): number {
    return this.leftovers.length + this.parked.length + this.offered.length + this.held.size;
  }

  get heldChains(): GuestChain[] {
    return [...this.held.keys()];
  }

  /** What the driver would get: false when the ring is full. */
  offer(chain: GuestChain): boolean {
    if (this.outstanding >= this.size) return false;
    this.offered.push(chain);
    this.pumpSoon();
    return true;
  }

  /** `leftovers`: chains that a predecessor had taken when it died. */
  start(leftovers: readonly GuestChain[] = []): void {
    assert.ok(!this.isRunning);
    this.leftovers.push(...leftovers);
    this.isStopping = false;
    this.credit = 0;
    const change = (count: number) => {
      this.credit = count;
      this.pumpSoon();
    };
    const credit = { set: change, add: (count: number) => change(this.credit + count) };
    this.queue = new ChainQueue(this.index, this.size, this.spec, credit, this.log);
    this.device.start(this.queue);
    this.pumpSoon();
  }

  /** Resolves when the ring has stopped: nothing of it is held any more. */
  async stop(): Promise<void> {
    if (this.queue === undefined) return;
    this.isStopping = true;
    this.queue.stop();
    let isLetGo = false;
    await Promise.all([
      Promise.resolve(this.device.stop?.(this.queue)).then(() => {
        isLetGo = true;
      }),
      until(() => isLetGo, `${this.spec.name}: the device lets the ring stop`, STOP_MS),
    ]);
    await until(() => this.held.size === 0, `${this.spec.name}: the device lets its chains go`, STOP_MS);
    this.queue = undefined;
  }

  /** The driver begins anew, with an empty ring. Only while it has stopped. */
  clear(): void {
    assert.ok(!this.isRunning);
    this.leftovers = [];
    this.parked = [];
    this.offered = [];
  }

  private get spec() {
    return this.device.queues[this.index]!;
  }

  /** Later, as the core's turn is: a device that answers at once would come here from within itself. */
  private pumpSoon(): void {
    if (this.isPumpDue) return;
    this.isPumpDue = true;
    setImmediate(() => {
      this.isPumpDue = false;
      this.pump();
    });
  }

  private pump(): void {
    while (this.queue && !this.isStopping && this.credit > 0) {
      const leftover = this.leftovers.shift();
      const chain = leftover ?? this.parked.shift() ?? this.offered.shift();
      if (chain === undefined) return;
      this.credit--;
      this.arrive(this.queue, chain, leftover !== undefined && this.spec.recover === "fail");
    }
  }

  private arrive(queue: ChainQueue, chain: GuestChain, mustFail: boolean): void {
    chain.arrivals++;
    this.held.set(chain, undefined);
    const held = queue.arrive(chain.buffers, mustFail ? "fail" : "serve", (result) =>
      this.answer(chain, result),
    );
    if (this.held.has(chain)) this.held.set(chain, held);
  }

  /** Throws what was wrong with an answer. */
  throwFault(): void {
    if (this.fault !== undefined) throw this.fault;
  }

  /** Called from within the device, whose queue takes any exception for the device's own: what is wrong is kept for throwFault(). */
  private answer(chain: GuestChain, result: number): void {
    try {
      this.takeAnswer(chain, result);
    } catch (error) {
      this.fault ??= error;
    }
  }

  private takeAnswer(chain: GuestChain, result: number): void {
    chain.answers++;
    assert.ok(this.held.delete(chain), `${chain.name}: answered though nobody had given it`);
    assert.equal(chain.answers, chain.arrivals, `${chain.name}: answered more often than it came`);
    if (result === CHAIN_PARKED || result === -ECANCELED) {
      assert.ok(this.isStopping, `${chain.name}: parked while its ring runs`);
      this.parked.push(chain);
      return;
    }
    chain.check(Math.max(result, 0));
    if (result < 0) this.failed++;
    else this.used++;
  }
}
