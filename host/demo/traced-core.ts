// The core, and beside it a twin with a hook before each store to shared memory, which goes through every call first. So
// the core that works is the very file that a daemon runs, and yet each of its stores is known: in order, and even before.
import { DEVICE_FLUSHED } from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";
import { QUEUE_STRIDE } from "../../assembly/abi/queue.ts";
import {
  REQUEST_STRIDE,
  WORKER_IOVECS,
  WORKER_LEFTOVERS,
  WORKER_QUEUES,
  WORKER_REQUESTS,
  WORKER_RINGS,
  WORKER_SCRATCH,
  WORKER_SQES,
} from "../../assembly/abi/worker.ts";
import { PRIVATE_PTR, PRIVATE_SIZE, SHARED_PTR, SHARED_SIZE } from "./memory-map.ts";

/** The exports as they are, without the compiler's wrappers: booleans are numbers. */
type Bindings = Awaited<ReturnType<typeof import("../../build/core.js").instantiate>>;
export type CoreExports = Omit<Bindings, "isStopped"> & { isStopped(index: number): number };

/** Call of the core: `core.plain.wasm` or its twin. */
export type Call<T> = (core: CoreExports) => T;

export interface CoreModules {
  core: WebAssembly.Module;
  hooked: WebAssembly.Module;
}

/** One store to shared memory, with the eight bytes from there on before and after it: no store is wider. */
export interface Store {
  ptr: number;
  before: bigint;
  after: bigint;
}

export interface Traced<T> {
  result: T;
  stores: Store[];
}

/** Loads and stores in one call: far more than any takes. */
const FUEL = 1_000_000;

export const REQUESTS = 16;
export const RING_ENTRIES = 64;

/** I/O vectors of one request lie so far apart; none here has more than four. */
const IOVECS_STRIDE = 0x4000;

/** What a process keeps in linear memory, as far as a few small requests reach. */
const PRIVATE: readonly [ptr: number, byteLength: number][] = [
  [DEVICE_PTR + DEVICE_FLUSHED, 4],
  [PRIVATE_PTR + WORKER_QUEUES, QUEUE_STRIDE],
  [PRIVATE_PTR + WORKER_SCRATCH, 128],
  [PRIVATE_PTR + WORKER_SQES, RING_ENTRIES * 64],
  [PRIVATE_PTR + WORKER_RINGS, 4096 + RING_ENTRIES * 16],
  [PRIVATE_PTR + WORKER_REQUESTS, REQUESTS * REQUEST_STRIDE],
  [PRIVATE_PTR + WORKER_LEFTOVERS, 64],
  ...Array.from({ length: REQUESTS }, (_, i): [number, number] => [
    PRIVATE_PTR + WORKER_IOVECS + i * IOVECS_STRIDE,
    64,
  ]),
];

/** What calls may change. */
const CHANGING: typeof PRIVATE = [[SHARED_PTR, SHARED_SIZE], ...PRIVATE];

/** As a new process finds it. */
export function clearPrivate(memory: WebAssembly.Memory): void {
  for (const [ptr, byteLength] of PRIVATE) new Uint8Array(memory.buffer, ptr, byteLength).fill(0);
}

/** Thrown through the twin, to end it before a store. */
class Crash extends Error {}

type Global = { value: number | bigint };

interface HookedExports extends CoreExports {
  fuel: Global;
  privateStart: Global;
  privateLength: Global;
}

export class TracedCore {
  private readonly core: CoreExports;
  private readonly twin: HookedExports;
  private readonly globals: Global[];
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private stores: Store[] = [];
  private crashBefore = Number.POSITIVE_INFINITY;

  constructor(modules: CoreModules, memory: WebAssembly.Memory) {
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    const env = { memory };
    const hook = { beforeStore: (ptr: number) => this.beforeStore(ptr), outOfFuel };
    this.core = new WebAssembly.Instance(modules.core, { env }).exports as unknown as CoreExports;
    const { exports } = new WebAssembly.Instance(modules.hooked, { env, hook });
    this.twin = exports as unknown as HookedExports;
    this.twin.privateStart.value = PRIVATE_PTR;
    this.twin.privateLength.value = PRIVATE_SIZE;
    this.globals = Object.entries(exports)
      .filter(([name]) => name.startsWith("state "))
      .map(([, global]) => global as Global);
  }

  /** Lets the twin do it, then the core. Both must have left the same. */
  call<T>(use: Call<T>): Traced<T> {
    const before = this.save();
    const stores = this.trace(use);
    const expected = this.save();
    this.restore(before);
    const result = use(this.core);
    if (!isSame(expected, this.save())) throw new Error("the core and its twin disagree");
    return { result, stores };
  }

  /** What stores the call would make. Nothing changes. */
  rehearse(use: Call<unknown>): Store[] {
    const before = this.save();
    const values = this.globals.map(({ value }) => value);
    const stores = this.trace(use);
    this.restore(before);
    this.globals.forEach((global, i) => {
      global.value = values[i]!;
    });
    return stores;
  }

  /** Begins the call and dies before its store number `index`, from 0. This core is of no use after that. */
  crash(use: Call<unknown>, index: number): Store[] {
    this.crashBefore = index;
    try {
      return this.trace(use);
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.endStore();
      return this.stores;
    }
  }

  private trace(use: Call<unknown>): Store[] {
    this.stores = [];
    this.twin.fuel.value = FUEL;
    use(this.twin);
    this.endStore();
    return this.stores;
  }

  private beforeStore(ptr: number): void {
    this.endStore();
    if (this.stores.length === this.crashBefore) throw new Crash();
    const before = this.view.getBigUint64(ptr, true);
    this.stores.push({ ptr, before, after: before });
  }

  /** What the last store did is there to see. */
  private endStore(): void {
    const last = this.stores.at(-1);
    if (last !== undefined) last.after = this.view.getBigUint64(last.ptr, true);
  }

  private save(): Uint8Array[] {
    return CHANGING.map(([ptr, byteLength]) => this.bytes.slice(ptr, ptr + byteLength));
  }

  private restore(saved: Uint8Array[]): void {
    CHANGING.forEach(([ptr], i) => {
      this.bytes.set(saved[i]!, ptr);
    });
  }
}

function isSame(a: Uint8Array[], b: Uint8Array[]): boolean {
  return a.every((part, i) => {
    const other = b[i]!;
    for (let at = 0; at < part.length; at++) if (part[at] !== other[at]) return false;
    return true;
  });
}

function outOfFuel(): never {
  throw new Error("the core does not end");
}
