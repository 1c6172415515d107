// Storage that the thread of its sessions serves, since it is called, and not handed to the kernel.
import type { Engine, EngineWorker } from "../engines/engine.ts";
import type { StorageEngines } from "./storage.ts";

/** A turn of the event loop costs more than all else, so it takes all that there is. */
const TURN_REQUESTS = 256;

/** `fd`: what stands for the disk where an SQE has a descriptor. */
export function enginesHere(fd: number, open: (worker: EngineWorker) => Engine): StorageEngines {
  return {
    recipe: { place: "this-thread", open },
    form: {
      fd,
      unalignedFd: fd,
      directMask: 0,
      marksDiscards: true,
      // Only the storage knows what a flush of its own means.
      keepsAccount: true,
      turnRequests: TURN_REQUESTS,
    },
    tellsFailures: true,
    close: () => {},
  };
}
