// The front-end ring driver in Wasm, its linear memory, and the arenas in it: one for each guest.
import { WASM_PAGE_SIZE } from "../../../assembly/abi/memory.ts";
import { instantiate } from "../../../build/driver.js";
import { addressOf } from "../../linux/libc.ts";
import { allocateAt, mapSharedAt } from "../../linux/mapping.ts";

export const ARENA_SIZE = 32 << 20;
/** The first arena's place holds the null guard. */
const ARENAS = 31;

/** Its declared maximum is what the module says. */
const PAGES_MAX = 65536;

type Exports = Awaited<ReturnType<typeof instantiate>>;

export class RingDriver {
  readonly hostAddress: number;
  private readonly free = Array.from({ length: ARENAS }, (_, i) => (ARENAS - i) * ARENA_SIZE);

  private constructor(
    readonly memory: WebAssembly.Memory,
    readonly calls: Exports,
  ) {
    this.hostAddress = addressOf(new Uint8Array(memory.buffer));
  }

  /** One for all guests: code that was optimised for one is as fast for the others. */
  static async load(wasm: Uint8Array): Promise<RingDriver> {
    const module = await WebAssembly.compile(wasm);
    const pages = ((ARENAS + 1) * ARENA_SIZE) / WASM_PAGE_SIZE;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: PAGES_MAX, shared: true });
    return new RingDriver(memory, await instantiate(module, { env: { memory } }));
  }

  /** Zeroed memory. Returns the pointer to its start. */
  takeArena(): number {
    const arena = this.free.pop();
    if (arena === undefined) throw new Error(`there are more than ${ARENAS} guests at a time`);
    allocateAt(this.hostAddress + arena, ARENA_SIZE);
    return arena;
  }

  /** Lets go of whatever is mapped there. */
  giveBack(arena: number): void {
    allocateAt(this.hostAddress + arena, ARENA_SIZE);
    this.free.push(arena);
  }

  /** Maps part of a file into an arena. */
  map(ptr: number, fd: number, offset: number, byteLength: number): void {
    mapSharedAt(this.hostAddress + ptr, fd, BigInt(offset), byteLength);
  }
}
