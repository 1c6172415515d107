// A worker's windows onto a guest that is larger than linear memory. The longest mapped goes first.
import {
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  TABLE_ENTRY_SIZE,
  WORKER_STRIDE,
  WORKER_WINDOW_TABLE,
  WORKERS_PTR,
} from "../../assembly/spec/layout.ts";
import { mapSharedAt } from "../linux/mapping.ts";
import type { WindowPlan } from "../memory/guest-memory.ts";

export class Windows {
  private plan: WindowPlan | undefined;
  private next = 0;
  private readonly table: number;

  constructor(
    private readonly view: DataView,
    private readonly hostAddress: number,
    private readonly worker: number,
  ) {
    this.table = WORKERS_PTR + worker * WORKER_STRIDE + WORKER_WINDOW_TABLE;
  }

  /** Guest memory has changed, and the main thread has emptied the table. */
  use(plan: WindowPlan | undefined): void {
    this.plan = plan;
    this.next = 0;
  }

  /** Maps a window over `gpa`, which is guest memory. */
  map(gpa: bigint): void {
    const plan = this.plan;
    const region = plan?.regions.find((known) => gpa >= known.gpa && gpa < known.gpa + known.byteLength);
    if (!plan || !region) throw new Error(`no region holds guest address 0x${gpa.toString(16)}`);
    const index = this.next;
    this.next = (index + 1) % plan.windowsPerWorker;

    const size = BigInt(plan.windowSize);
    // Aligned in the file, since that is what mmap() and huge pages ask for.
    const offset = region.offset + (gpa - region.gpa);
    const aligned = offset - (offset % size);
    const fileStart = aligned < region.offset ? region.offset : aligned;
    const fileEnd = min(aligned + size, region.offset + region.byteLength);
    const mapStart = fileStart - (fileStart % BigInt(region.granularity));

    const ptr = plan.firstPtr + (this.worker * plan.windowsPerWorker + index) * plan.windowSize;
    this.writeEntry(index, 0n, 0n, 0);
    mapSharedAt(this.hostAddress + ptr, region.fd, mapStart, Number(fileEnd - mapStart));
    this.writeEntry(
      index,
      region.gpa + (fileStart - region.offset),
      fileEnd - fileStart,
      ptr + Number(fileStart - mapStart),
    );
  }

  private writeEntry(index: number, gpa: bigint, byteLength: bigint, ptr: number): void {
    const entry = this.table + index * TABLE_ENTRY_SIZE;
    this.view.setBigUint64(entry + ENTRY_GPA, gpa, true);
    this.view.setBigUint64(entry + ENTRY_LENGTH, byteLength, true);
    this.view.setBigUint64(entry + ENTRY_TARGET, BigInt(ptr), true);
  }
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
