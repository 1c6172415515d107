// What a worker's engine is made from: something that can be sent to the worker's thread, or something bound to this one.
import type { OpenEngine } from "./engine.ts";

/** "auto": io_uring, or threads where the kernel has no io_uring for us. */
export type FileEngine = "io_uring" | "threads" | "auto";

/** Open files, which are good in every thread. It can be sent to another one (structured clone). */
export interface FilesRecipe {
  readonly place: "own-threads";
  /** All that SQEs name as files; what else they name are eventfds. */
  readonly fds: readonly number[];
  readonly engine: FileEngine;
}

/** An object lives in the thread in which it was made; so its one worker runs there, through the event loop. */
export interface LocalRecipe {
  readonly place: "this-thread";
  readonly open: OpenEngine;
}

export type EngineRecipe = FilesRecipe | LocalRecipe;
