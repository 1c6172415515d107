// Where each worker's part of linear memory lies, and which worker has which queue.
import { WORKER_STRIDE, WORKERS_MAX, WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { QUEUE_STRIDE } from "../../assembly/abi/queue.ts";
import { WORKER_QUEUES } from "../../assembly/abi/worker.ts";

/** A queue's place: its worker, and its index among the queues of that worker. */
export interface QueuePlace {
  worker: number;
  queue: number;
}

export function workerPtrOf(worker: number): number {
  return WORKERS_PTR + worker * WORKER_STRIDE;
}

/** Where the core keeps the state of a queue. */
export function queuePtrOf({ worker, queue }: QueuePlace): number {
  return workerPtrOf(worker) + WORKER_QUEUES + queue * QUEUE_STRIDE;
}

/** How many workers serve: no more than there are queues, or parts of memory. */
export function workerCountFor(threads: number, queueCount: number): number {
  return Math.min(threads, queueCount, WORKERS_MAX);
}

/** Queues are dealt to the workers in turn. */
export function placeOf(index: number, workerCount: number): QueuePlace {
  return { worker: index % workerCount, queue: Math.floor(index / workerCount) };
}

/** The device's index of a queue: placeOf() the other way. */
export function queueIndexAt({ worker, queue }: QueuePlace, workerCount: number): number {
  return queue * workerCount + worker;
}

/** How many of the device's queues a worker has. */
export function queuesOf(worker: number, workerCount: number, queueCount: number): number {
  return Math.ceil((queueCount - worker) / workerCount);
}
