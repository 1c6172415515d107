// The whole of what the page shows: a guest, the core over its memory, and a kernel that does as it is told. Plays the
// part that the daemon and the front-end have in life: starts the core, lets it die, and lets another take over.
import { QUEUE_F_EVENT_IDX, QUEUE_F_PACKED } from "../../assembly/abi/queue.ts";
import { STEP_BROKEN, STEP_WAIT } from "../../assembly/abi/step.ts";
import { USED_IDX } from "../../assembly/spec/virtqueue.ts";
import type { RingConfig } from "./config.ts";
import type { Mischief } from "./demo-ring.ts";
import { Disk } from "./disk.ts";
import { addLines, describeUsed, MISCHIEF } from "./driver-story.ts";
import { type Field, fieldsOf } from "./fields.ts";
import { Guest, nameOf, type Wish } from "./guest.ts";
import { GuestMemory } from "./guest-memory.ts";
import { leftoversOf } from "./inflight-view.ts";
import {
  CQ_HEAD,
  CQ_TAIL,
  CQES,
  type Ending,
  Kernel,
  type Operation,
  SQ_FLAGS,
  SQ_HEAD,
  SQ_TAIL,
  SQES,
} from "./kernel.ts";
import * as map from "./memory-map.ts";
import { tellStep } from "./step-story.ts";
import { changesOf, describeStore, INFLIGHT_CLAUSE, type Line } from "./stores.ts";
import {
  type CoreModules,
  clearPrivate,
  REQUESTS,
  RING_ENTRIES,
  type Store,
  TracedCore,
} from "./traced-core.ts";

export type Actor = "driver" | "core" | "kernel" | "front-end";

export interface Entry {
  actor: Actor;
  title: string;
  lines: Line[];
}

export class Machine {
  readonly view: DataView;
  readonly disk = new Disk();
  readonly guest: Guest;
  readonly kernel: Kernel;
  readonly fields: Field[];
  readonly log: Entry[] = [];
  /** The FAULT_* that broke the ring, or 0. */
  fault = 0;
  private core: TracedCore | undefined;
  private isAsleep = false;
  private answers: Line[] = [];

  constructor(
    private readonly modules: CoreModules,
    private readonly memory: WebAssembly.Memory,
    readonly config: RingConfig,
  ) {
    this.view = new DataView(memory.buffer);
    new Uint8Array(memory.buffer, map.SHARED_PTR, map.SHARED_SIZE).fill(0);
    this.fields = fieldsOf(config);
    this.guest = new Guest(new GuestMemory(this.view), config);
    this.kernel = new Kernel(this.view, this.disk);
    this.start();
    this.settle();
    const kind = `${config.isPacked ? "packed" : "split"} ring of ${config.size}`;
    this.tell("front-end", `starts a ${kind} ${config.hasEventIdx ? "with" : "without"} event indices`, []);
  }

  get isCrashed(): boolean {
    return this.core === undefined;
  }

  get isBroken(): boolean {
    return this.fault !== 0;
  }

  /** Whether a step would have something to look at. */
  get isAwake(): boolean {
    return !this.isCrashed && (!this.isAsleep || this.kernel.hasCompletions);
  }

  /** The stores to shared memory that the next step would make. */
  rehearse(): Store[] {
    return this.core?.rehearse((core) => core.step()) ?? [];
  }

  describe(store: Store): Line {
    const line = describeStore(changesOf(store, this.fields));
    // A status lies where its request has its buffers, which nobody knows by number.
    const code = line.code?.replace(
      /^status\[(\d+)\]/,
      (_, slot) => `${this.labelOfSlot(Number(slot))}.status`,
    );
    return code === undefined ? line : { ...line, code };
  }

  label(token: number): string {
    const serial = this.guest.ring.ownerOfToken(token);
    return serial === undefined ? `chain ${token}` : `#${serial}`;
  }

  private labelOfSlot(slot: number): string {
    return `#${this.guest.pending.find((request) => request.slot === slot)?.serial ?? "?"}`;
  }

  canAdd(wish: Wish): boolean {
    return !this.isBroken && this.guest.hasRoomFor(wish);
  }

  add(wish: Wish): void {
    const request = this.guest.add(wish);
    const what = `adds #${request.serial}: ${nameOf(wish)}${wish.kind === "write" ? `, all ${request.letters}` : ""}`;
    this.tell("driver", what, addLines(this.config, request));
  }

  kick(): void {
    const isWanted = this.guest.ring.takeKickWish();
    const clause = this.config.isPacked ? "virtio 2.8.21.2" : "virtio 2.7.13.4";
    if (!isWanted) {
      this.tell("driver", "does not kick: the device has not asked for it", [
        { text: "the device is awake and will look by itself", clause },
      ]);
      return;
    }
    this.kernel.kick();
    const text = this.isCrashed
      ? "nobody reads the eventfd now; it waits"
      : "writes the kick eventfd; the core's read of it completes";
    this.tell("driver", "kicks", [{ text, clause }]);
  }

  step(): void {
    if (this.core === undefined) return;
    const { result, stores } = this.core.call((core) => core.step());
    const { operations, calls } = this.kernel.enter();
    if ((result & STEP_BROKEN) !== 0) this.fault = this.core.call((core) => core.queueFault(0)).result;
    this.isAsleep = (result & STEP_WAIT) !== 0;
    const { title, lines } = tellStep({
      stores,
      describe: (store) => this.describe(store),
      operations,
      calls,
      fields: this.fields,
      answers: this.answers,
      fault: (result & STEP_BROKEN) === 0 ? 0 : this.fault,
      sleeps: this.isAsleep && !this.kernel.hasCompletions,
      label: (token) => this.label(token),
      labelOfSlot: (slot) => this.labelOfSlot(slot),
    });
    this.answers = [];
    this.tell("core", title, lines);
  }

  complete(operation: Operation, ending: Ending): void {
    const label = this.label(operation.token);
    const result = this.kernel.complete(operation, ending);
    const answer = result < 0 ? "has failed" : result === 0 ? "is done" : `has moved ${result} bytes`;
    this.answers.push({
      code: `CQE ${result}`,
      text: `hears that the ${operation.name} for ${label} ${answer}`,
    });
    const how = { done: "does", short: "does half of", failed: "fails" }[ending];
    this.tell("kernel", `${how} ${operation.name} for ${label}`, [
      { code: `CQE ${result}`, text: "the core sees it at its next step", clause: "io_uring_enter(2)" },
    ]);
  }

  takeUsed(): void {
    this.kernel.calls = 0;
    const taken = this.guest.takeUsed();
    const clause = this.config.isPacked ? "virtio 2.8.22" : "virtio 2.7.14";
    const lines = taken.map(({ request, byteLength }) => ({
      text: describeUsed(request, byteLength),
      clause,
    }));
    const serials = taken.map(({ request }) => `#${request.serial}`).join(", ");
    this.tell("driver", taken.length === 0 ? "finds nothing used" : `takes back ${serials}`, lines);
  }

  /** The core dies: now, or in its next step before its store number `before`, from 0. */
  crash(before?: number): void {
    if (this.core === undefined) return;
    const stores = before === undefined ? [] : this.core.crash((core) => core.step(), before);
    this.core = undefined;
    this.answers = [];
    const lost = this.kernel.forget().map(({ token }) => this.label(token));
    const lines = stores.map((store) => this.describe(store));
    lines.push({ text: "its memory is gone; the ring and the inflight region are not its own, and stay" });
    if (lost.length > 0) lines.push({ text: `what the kernel had of it is not done: ${lost.join(", ")}` });
    const title =
      before === undefined ? "dies" : `dies in the middle of a step, after ${stores.length} stores`;
    this.tell("core", title, lines);
  }

  /** A new core over the same ring and inflight region. */
  recover(): void {
    if (this.core !== undefined) return;
    const stores = this.start();
    const left = leftoversOf(this.view, this.config);
    const lines: Line[] = stores.map((store) => this.describe(store));
    for (const token of left) {
      lines.push({
        text: `finds ${this.label(token)} in flight: it will be done again`,
        clause: INFLIGHT_CLAUSE,
      });
    }
    const count = left.length === 0 ? "nothing" : `${left.length} request${left.length === 1 ? "" : "s"}`;
    this.tell("core", `starts anew, and finds ${count} in flight`, lines);
  }

  breakRing(mischief: Mischief): void {
    this.guest.ring.misbehave(mischief);
    this.tell("driver", `writes what no driver should: ${MISCHIEF[mischief]}`, []);
    this.kick();
  }

  /** The guest resets its device: the ring stops, and begins anew, empty. */
  reset(): void {
    this.stop();
    const abandoned = this.guest.reset().map(({ serial }) => `#${serial}`);
    new Uint8Array(this.memory.buffer, map.INFLIGHT_PTR, map.GUEST_PTR - map.INFLIGHT_PTR).fill(0);
    this.kernel.kicks = 0;
    this.kernel.calls = 0;
    this.answers = [];
    this.fault = 0;
    this.start();
    this.settle();
    const lines = abandoned.length === 0 ? [] : [{ text: `the guest gives up ${abandoned.join(", ")}` }];
    this.tell("front-end", "resets the device: an empty ring, a new inflight region", lines);
  }

  /** GET_VRING_BASE: what the kernel has is waited for, and nothing more is taken. */
  private stop(): void {
    this.core?.call((core) => core.stopQueue(0));
    for (let turns = 0; turns < 100 && this.core?.call((core) => core.isStopped(0)).result === 0; turns++) {
      for (const operation of [...this.kernel.operations]) this.kernel.complete(operation, "done");
      this.core.call((core) => core.step());
      this.kernel.enter();
    }
    this.core = undefined;
    this.kernel.forget();
  }

  private start(): Store[] {
    const { view, config } = this;
    clearPrivate(this.memory);
    map.describeHost(view);
    const core = new TracedCore(this.modules, this.memory);
    core.call((use) =>
      use.attachRings(SQ_HEAD, SQ_TAIL, SQ_FLAGS, SQES, RING_ENTRIES, CQ_HEAD, CQ_TAIL, CQES, RING_ENTRIES),
    );
    core.call((use) => use.openWorker(0, 1, REQUESTS, map.CONTROL_FD));
    core.call((use) => use.trackInflight(0, map.INFLIGHT_PTR, config.size));
    const flags = (config.isPacked ? QUEUE_F_PACKED : 0) | (config.hasEventIdx ? QUEUE_F_EVENT_IDX : 0);
    const [desc, driver, device] = [map.DESC_GPA, map.DRIVER_GPA, map.DEVICE_GPA].map(map.ptrOfGpa);
    const base = this.base();
    const { stores } = core.call((use) =>
      use.startQueue(0, config.size, flags, desc!, driver!, device!, base, map.KICK_FD, map.CALL_FD),
    );
    this.core = core;
    this.isAsleep = false;
    return stores;
  }

  /** A first step, which arms the kick; and the call that each start with an inflight region makes, to an idle driver. */
  private settle(): void {
    while (this.isAwake) {
      const { result } = this.core!.call((core) => core.step());
      this.kernel.enter();
      this.isAsleep = (result & STEP_WAIT) !== 0;
    }
    this.kernel.calls = 0;
  }

  /** What the front-end says in SET_VRING_BASE. Of a ring that ran it knows little: QEMU sends the used index. */
  private base(): number {
    return this.config.isPacked
      ? this.guest.ring.initialBase
      : this.guest.memory.u16(map.DEVICE_GPA + USED_IDX);
  }

  private tell(actor: Actor, title: string, lines: Line[]): void {
    this.log.push({ actor, title, lines });
  }
}
