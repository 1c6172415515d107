// What engines in JavaScript have in common: they take SQEs from the core's memory, put CQEs there, and wait for eventfds.

import { REQUESTS_MAX, WORKER_RINGS, WORKER_SQES } from "../../assembly/abi/worker.ts";
import {
  CQE_RES,
  CQE_SIZE,
  CQE_USER_DATA,
  EAGAIN,
  ECANCELED,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_READ,
  SQE_ADDR,
  SQE_FD,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_SIZE,
  SQE_USER_DATA,
} from "../../assembly/spec/io-uring.ts";
import type { Core } from "../core/core.ts";
import { closePeerSignals, openPeerSignals, readPeer, signalPeer } from "../linux/peer-notifier.ts";
import { whenWritable } from "../linux/readiness.ts";
import { type Engine, type EngineName, type Patience, waitUsOf } from "./engine.ts";
import { ReadWatches } from "./read-watches.ts";

/** The rings' words and completions, from WORKER_RINGS: laid out as we like, since no kernel reads them. */
const SQ_HEAD = 0;
const SQ_TAIL = 4;
const SQ_FLAGS = 8;
const CQ_HEAD = 12;
const CQ_TAIL = 16;
const CQES = 64;
const SQ_ENTRIES = REQUESTS_MAX;
const CQ_ENTRIES = REQUESTS_MAX * 2;

export interface Operation {
  opcode: number;
  fd: number;
  offset: bigint;
  address: bigint;
  length: number;
  opFlags: number;
  userData: bigint;
}

export abstract class SoftwareEngine implements Engine {
  abstract readonly name: EngineName;
  /** Completions come by the event loop, which must have its turn. */
  readonly canPoll = false;
  readonly requestCount = REQUESTS_MAX;

  protected readonly view: DataView;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly sqes: number;
  private readonly cqes: number;
  /** Reads and writes of eventfds that wait for their turn, by user_data. */
  private readonly waiting = new Map<bigint, { stop(): void }>();
  private readonly reads = new ReadWatches();
  /** Ends the worker's sleep, while it sleeps. */
  private endSleep: (() => void) | undefined;
  private isWanted = false;
  /** The worker is about to step, and will find whatever has been done up to then. */
  private isLeaving = false;

  constructor(
    memory: WebAssembly.Memory,
    private readonly workerPtr: number,
  ) {
    const buffer = memory.buffer as unknown as SharedArrayBuffer;
    this.words = new Int32Array(buffer, workerPtr + WORKER_RINGS, 5);
    this.view = new DataView(buffer);
    this.sqes = workerPtr + WORKER_SQES;
    this.cqes = workerPtr + WORKER_RINGS + CQES;
    openPeerSignals();
  }

  /** Does what the SQE there asks, and calls complete() then or later. False: its descriptor is not the disk's. */
  protected abstract perform(sqe: number): boolean;

  attach(core: Core): void {
    const rings = this.workerPtr + WORKER_RINGS;
    core.attachRings(
      rings + SQ_HEAD,
      rings + SQ_TAIL,
      rings + SQ_FLAGS,
      this.sqes,
      SQ_ENTRIES,
      rings + CQ_HEAD,
      rings + CQ_TAIL,
      this.cqes,
      CQ_ENTRIES,
    );
  }

  /** Goes on where another engine ends: with entries that it has not taken, and completions that the core has not seen. */
  adopt(core: Core, entries: readonly Uint8Array[], completions: readonly [bigint, number][]): void {
    this.words.fill(0);
    entries.forEach((entry, i) => {
      new Uint8Array(this.view.buffer, this.sqes + i * SQE_SIZE, SQE_SIZE).set(entry);
    });
    Atomics.store(this.words, SQ_TAIL / 4, entries.length);
    this.attach(core);
    for (const [userData, result] of completions) this.complete(userData, result);
  }

  enter(count: number, patience: Patience): Promise<void> {
    this.isLeaving = false;
    for (let i = 0; i < count; i++) this.submitNext();
    if (patience === "go-on" || this.isWanted || this.hasCompletion()) {
      this.isWanted = false;
      this.isLeaving = true;
      return nextTurn();
    }
    return new Promise((resolve) => {
      const waitUs = waitUsOf(patience);
      const timer = waitUs === undefined ? null : setTimeout(() => this.endSleep?.(), waitUs / 1000);
      this.endSleep = () => {
        this.endSleep = undefined;
        this.isLeaving = true;
        if (timer) clearTimeout(timer);
        this.resume(resolve);
      };
    });
  }

  wake(): void {
    if (this.endSleep) this.endSleep();
    else if (!this.isLeaving) this.isWanted = true;
  }

  forgetDescriptors(): void {
    this.reads.endIdle();
  }

  close(): void {
    for (const { stop } of this.waiting.values()) stop();
    this.waiting.clear();
    this.reads.close();
    closePeerSignals();
  }

  /** Completes what perform() has taken with -ECANCELED, if the engine can do without the rest of it. */
  protected withdraw(_userData: bigint): void {}

  /** Lets the worker go on after a completion has woken it. */
  protected resume(goOn: () => void): void {
    goOn();
  }

  /** `result`: a count or a negated errno. */
  protected complete(userData: bigint, result: number): void {
    const cqe = this.nextCqe();
    this.view.setBigUint64(cqe + CQE_USER_DATA, userData, true);
    this.publish(cqe, result);
  }

  /** The same for user_data in two words of 32 bits, without a BigInt. */
  protected completeWords(low: number, high: number, result: number): void {
    const cqe = this.nextCqe();
    this.view.setUint32(cqe + CQE_USER_DATA, low, true);
    this.view.setUint32(cqe + CQE_USER_DATA + 4, high, true);
    this.publish(cqe, result);
  }

  private nextCqe(): number {
    return this.cqes + ((Atomics.load(this.words, CQ_TAIL / 4) >>> 0) % CQ_ENTRIES) * CQE_SIZE;
  }

  private publish(cqe: number, result: number): void {
    this.view.setInt32(cqe + CQE_RES, result, true);
    Atomics.add(this.words, CQ_TAIL / 4, 1);
    this.endSleep?.();
  }

  private hasCompletion(): boolean {
    return Atomics.load(this.words, CQ_HEAD / 4) !== Atomics.load(this.words, CQ_TAIL / 4);
  }

  /** An SQE may be read until another has come in its place. */
  private submitNext(): void {
    const head = Atomics.load(this.words, SQ_HEAD / 4);
    this.submit(this.sqes + ((head >>> 0) % SQ_ENTRIES) * SQE_SIZE);
    Atomics.store(this.words, SQ_HEAD / 4, head + 1);
  }

  protected operationAt(sqe: number): Operation {
    const { view } = this;
    return {
      opcode: view.getUint8(sqe + SQE_OPCODE),
      fd: view.getInt32(sqe + SQE_FD, true),
      offset: view.getBigUint64(sqe + SQE_OFF, true),
      address: view.getBigUint64(sqe + SQE_ADDR, true),
      length: view.getUint32(sqe + SQE_LEN, true),
      opFlags: view.getUint32(sqe + SQE_OP_FLAGS, true),
      userData: view.getBigUint64(sqe + SQE_USER_DATA, true),
    };
  }

  private submit(sqe: number): void {
    if (this.view.getUint8(sqe + SQE_OPCODE) === IORING_OP_ASYNC_CANCEL) this.cancel(this.operationAt(sqe));
    else if (!this.perform(sqe)) this.waitForEvent(this.operationAt(sqe));
  }

  private waitForEvent(operation: Operation): void {
    if (operation.opcode === IORING_OP_READ) this.waitToRead(operation);
    else this.waitToWrite(operation);
  }

  private waitToRead({ fd, address, length, userData }: Operation): void {
    this.waiting.set(userData, { stop: () => this.reads.end(fd) });
    this.reads.wait(fd, () => {
      this.waiting.delete(userData);
      this.complete(userData, readPeer(fd, Number(address), length));
    });
  }

  /** A call goes out at once if it can, as with io_uring: the next turn may cancel what still waits. */
  private waitToWrite({ fd, userData }: Operation): void {
    const result = signalPeer(fd);
    if (result !== -EAGAIN) {
      this.complete(userData, result);
      return;
    }
    const watch = whenWritable(fd, () => {
      const later = signalPeer(fd);
      // The peer has filled it again since the loop saw room: the watch goes on.
      if (later === -EAGAIN) return;
      watch.stop();
      this.waiting.delete(userData);
      this.complete(userData, later);
    });
    this.waiting.set(userData, watch);
  }

  private cancel({ address, userData }: Operation): void {
    const target = this.waiting.get(address);
    if (target) {
      target.stop();
      this.waiting.delete(address);
      this.complete(address, -ECANCELED);
    } else this.withdraw(address);
    this.complete(userData, 0);
  }
}

function nextTurn(): Promise<void> {
  // Through the event loop, so that completions and commands get their turn.
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
