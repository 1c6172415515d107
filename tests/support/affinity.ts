// Which cores a thread may run on (sched_setaffinity(2)).
import koffi from "koffi";
import { checked } from "../../host/linux/libc.ts";

const setAffinity = koffi.load(null).func("int sched_setaffinity(int pid, size_t length, void *mask)");

const MASK_SIZE = 128;

/** Binds the calling thread. Threads and processes that it starts from now on inherit that. */
export function pinThisThread(cores: readonly number[]): void {
  const mask = Buffer.alloc(MASK_SIZE);
  for (const core of cores) mask[core >> 3]! |= 1 << (core & 7);
  checked("sched_setaffinity", setAffinity(0, MASK_SIZE, mask));
}
