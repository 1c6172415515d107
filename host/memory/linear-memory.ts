// The 4 GiB of address space that the core works in, and what is mapped there. See assembly/abi/memory.ts.
import {
  GUEST_PTR,
  HEAD_END,
  MEMORY_PAGES,
  WASM_PAGE_SIZE,
  ZEROES_PTR,
  ZEROES_SIZE,
} from "../../assembly/abi/memory.ts";
import { StartError } from "../errors.ts";
import { addressOf } from "../linux/libc.ts";
import { allocateAt, reserveAt } from "../linux/mapping.ts";
import { workerPtrOf } from "./worker-part.ts";

/** Throws StartError where limits leave no room for it. */
function reserve(): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared: true });
  } catch (error) {
    if (error instanceof RangeError) throw new StartError(NO_ADDRESSES);
    throw error;
  }
}

export const NO_ADDRESSES =
  "there are not enough addresses for its memory: raise the limits (ulimit -v and -d, LimitAS=, LimitDATA=) " +
  "to 16 GiB, or use fewer threads";

export class LinearMemory {
  readonly wasm = reserve();
  /** Where it begins in this process: host address = hostAddress + pointer. */
  readonly hostAddress = addressOf(new Uint8Array(this.wasm.buffer));
  /** Only for addresses that are mapped: others fault, and outside of Wasm nothing catches that. */
  readonly view = new DataView(this.wasm.buffer);

  /** Everything that is not mapped here, or as guest memory later, faults on access: in the core that is a trap. */
  constructor(private readonly workerCount: number) {
    reserveAt(this.hostAddress, MEMORY_PAGES * WASM_PAGE_SIZE);
    this.allocate();
  }

  /** Gives back what was stored here, long before the addresses go as garbage. Whoever still reads a count reads 0. */
  release(): void {
    this.clearGuest();
    this.allocate();
  }

  /** Takes back what was mapped of guest memory. */
  clearGuest(): void {
    reserveAt(this.hostAddress + GUEST_PTR, MEMORY_PAGES * WASM_PAGE_SIZE - GUEST_PTR);
  }

  private allocate(): void {
    const workers = workerPtrOf(0);
    allocateAt(this.hostAddress + WASM_PAGE_SIZE, HEAD_END - WASM_PAGE_SIZE);
    allocateAt(this.hostAddress + ZEROES_PTR, ZEROES_SIZE, { readOnly: true });
    allocateAt(this.hostAddress + workers, workerPtrOf(this.workerCount) - workers);
  }
}
