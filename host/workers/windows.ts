// How a worker shows its core a guest that is larger than linear memory: by windows where the guest comes back, by copies
// where it doesn't. The longest mapped window goes first.
import {
  COPIES_MAX,
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  GUEST_WRITES_MAX,
  TABLE_ENTRY_SIZE,
} from "../../assembly/abi/guest-memory.ts";
import { WORKER_COPIES, WORKER_GUEST_WRITES, WORKER_WINDOW_TABLE } from "../../assembly/abi/worker.ts";
import { memcpy, SystemError } from "../linux/libc.ts";
import { mapSharedAt } from "../linux/mapping.ts";
import { COPIES_SIZE, COPY_SIZE, type WindowPlan, type WindowRegion } from "../memory/guest-memory.ts";
import { workerPtrOf } from "../memory/worker-part.ts";

/**
 * A window is mapped once it was missed so often, of so many misses in all. Mapping costs some 20 copies: a guest that
 * keeps to its memory has windows soon, and one that uses all of it at random hardly any.
 */
const MISSES_TO_MAP = 16;
const MISSES_REMEMBERED = 4096;

/** Copies for one chain: no fewer than a worker has windows. More than this many scattered headers no driver makes. */
const COPIES_LEAST = 64;

const PAGE_SIZE = 4096;

export class Windows {
  private plan: WindowPlan | undefined;
  private next = 0;
  /** Whether the kernel lets us map. */
  private mayMap = true;
  private copies = 0;
  private misses = 0;
  private readonly missesByWindow = new Map<string, number>();
  private readonly part: number;

  constructor(
    private readonly view: DataView,
    private readonly hostAddress: number,
    private readonly worker: number,
  ) {
    this.part = workerPtrOf(worker);
  }

  /** Guest memory may have changed; if so, the main thread has emptied the table of windows. */
  use(plan: WindowPlan | undefined): void {
    this.plan = plan;
    this.next = 0;
    this.mayMap = true;
    this.misses = 0;
    this.missesByWindow.clear();
  }

  /** Shows what is at `gpa`, if it can: else the core breaks the ring that wants it. */
  show(gpa: bigint): void {
    const region = this.regionOf(gpa);
    if (region === undefined) return;
    const most = Math.min(Math.max(COPIES_LEAST, this.plan!.windowsPerWorker), COPIES_MAX);
    if (this.copyCount === most) return;
    if (this.isWorthMapping(region, gpa) && this.map(region, gpa)) return;
    this.lend(region, gpa);
  }

  /** Writes what the core wants written where no window shows the guest. */
  writeToGuest(): void {
    const table = this.part + WORKER_GUEST_WRITES;
    for (let i = 0; i < GUEST_WRITES_MAX; i++) {
      const entry = table + i * TABLE_ENTRY_SIZE;
      const byteLength = Number(this.view.getBigUint64(entry + ENTRY_LENGTH, true));
      if (byteLength === 0) return;
      const gpa = this.view.getBigUint64(entry + ENTRY_GPA, true);
      const region = this.regionOf(gpa);
      if (region === undefined) continue;
      const source = this.hostAddress + Number(this.view.getBigUint64(entry + ENTRY_TARGET, true));
      // SAFETY: the core has checked that one region holds it all, and regions stay mapped while rings run.
      memcpy(region.hostAddress + Number(gpa - region.gpa), source, byteLength);
    }
  }

  private regionOf(gpa: bigint): WindowRegion | undefined {
    return this.plan?.regions.find((known) => gpa >= known.gpa && gpa < known.gpa + known.byteLength);
  }

  /** The core drops them all when the chain that they were for has been read. */
  private get copyCount(): number {
    const first = this.view.getBigUint64(this.part + WORKER_COPIES + ENTRY_LENGTH, true);
    return first === 0n ? 0 : this.copies;
  }

  private isWorthMapping(region: WindowRegion, gpa: bigint): boolean {
    const { windowSize, windowsPerWorker } = this.plan!;
    if (windowsPerWorker === 0 || !this.mayMap) return false;
    if (++this.misses > MISSES_REMEMBERED) {
      this.misses = 0;
      this.missesByWindow.clear();
    }
    const window = `${region.gpa} ${(region.offset + gpa - region.gpa) / BigInt(windowSize)}`;
    const misses = (this.missesByWindow.get(window) ?? 0) + 1;
    this.missesByWindow.set(window, misses % MISSES_TO_MAP);
    return misses === MISSES_TO_MAP;
  }

  /** False if the kernel refuses: the memory is sealed by now, or there are too many mappings. */
  private map(region: WindowRegion, gpa: bigint): boolean {
    const { windowSize, windowsPerWorker, firstPtr } = this.plan!;
    const index = this.next;
    this.next = (index + 1) % windowsPerWorker;

    const size = BigInt(windowSize);
    // Aligned in the file, since that is what mmap() and huge pages ask for.
    const offset = region.offset + (gpa - region.gpa);
    const aligned = offset - (offset % size);
    const fileStart = aligned < region.offset ? region.offset : aligned;
    const fileEnd = min(aligned + size, region.offset + region.byteLength);
    const mapStart = fileStart - (fileStart % BigInt(region.granularity));

    const ptr = firstPtr + (this.worker * windowsPerWorker + index) * windowSize;
    this.writeEntry(WORKER_WINDOW_TABLE, index, { gpa: 0n, byteLength: 0n, ptr: 0 });
    try {
      mapSharedAt(this.hostAddress + ptr, region.fd, mapStart, Number(fileEnd - mapStart));
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.mayMap = false;
      return false;
    }
    this.writeEntry(WORKER_WINDOW_TABLE, index, {
      gpa: region.gpa + (fileStart - region.offset),
      byteLength: fileEnd - fileStart,
      ptr: ptr + Number(fileStart - mapStart),
    });
    return true;
  }

  /** The page at `gpa`; more at a time for a chain that goes on asking, as one with a long table does. */
  private lend(region: WindowRegion, gpa: bigint): void {
    const index = this.copyCount;
    const offset = gpa - region.gpa;
    const start = offset - (offset % BigInt(PAGE_SIZE));
    const size = Math.min(PAGE_SIZE * 2 ** (index >> 1), COPY_SIZE);
    const byteLength = min(BigInt(size), region.byteLength - start);
    const ptr = this.plan!.copiesPtr + this.worker * COPIES_SIZE + index * COPY_SIZE;
    // SAFETY: within one region, which stays mapped while rings run.
    memcpy(this.hostAddress + ptr, region.hostAddress + Number(start), Number(byteLength));
    this.copies = index + 1;
    if (this.copies < COPIES_MAX) {
      this.writeEntry(WORKER_COPIES, this.copies, { gpa: 0n, byteLength: 0n, ptr: 0 });
    }
    this.writeEntry(WORKER_COPIES, index, { gpa: region.gpa + start, byteLength, ptr });
  }

  private writeEntry(
    table: number,
    index: number,
    shown: { gpa: bigint; byteLength: bigint; ptr: number },
  ): void {
    const entry = this.part + table + index * TABLE_ENTRY_SIZE;
    this.view.setBigUint64(entry + ENTRY_GPA, shown.gpa, true);
    this.view.setBigUint64(entry + ENTRY_LENGTH, shown.byteLength, true);
    this.view.setBigUint64(entry + ENTRY_TARGET, BigInt(shown.ptr), true);
  }
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
