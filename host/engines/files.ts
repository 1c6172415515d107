// The engine for files: io_uring, or libuv's threads where that can't be had.
import type { Engine, EngineWorker } from "./engine.ts";
import type { FilesRecipe } from "./recipe.ts";
import { ThreadsEngine } from "./threads.ts";
import { UringEngine } from "./uring.ts";

/** In the worker's thread: a ring of io_uring has one user. Throws SystemError if the engine that was asked for can't be had. */
export function openFileEngine(
  { engine, fds }: FilesRecipe,
  { memory, memoryHostAddress, workerPtr }: EngineWorker,
): { engine: Engine; whyNotUring?: string } {
  const openThreads = (): ThreadsEngine => new ThreadsEngine(memory, workerPtr, fds);
  if (engine === "threads") return { engine: openThreads() };
  try {
    return { engine: UringEngine.open(memory, memoryHostAddress, workerPtr, openThreads) };
  } catch (error) {
    if (engine === "io_uring") throw error;
    return { engine: openThreads(), whyNotUring: (error as Error).message };
  }
}
