// Which worker has which queue, and where both lie in linear memory.
import assert from "node:assert/strict";
import { test } from "node:test";
import { INFLIGHT_PTR, WORKERS_MAX } from "../../assembly/abi/memory.ts";
import { QUEUE_STRIDE, QUEUES_MAX } from "../../assembly/abi/queue.ts";
import { WORKER_IOVECS, WORKER_QUEUES } from "../../assembly/abi/worker.ts";
import {
  placeOf,
  queueIndexAt,
  queuePtrOf,
  queuesOf,
  workerCountFor,
  workerPtrOf,
} from "../../host/memory/worker-part.ts";

test("every queue has one place, and each worker as many as it is said to have", () => {
  for (let workers = 1; workers <= WORKERS_MAX; workers++) {
    for (const queues of [workers, workers + 1, 2 * workers + 3, QUEUES_MAX]) {
      const counts = new Array<number>(workers).fill(0);
      const ptrs = new Set<number>();
      for (let index = 0; index < queues; index++) {
        const place = placeOf(index, workers);
        assert.equal(queueIndexAt(place, workers), index);
        assert.equal(place.queue, counts[place.worker]!++, "numbered from 0 within the worker");
        ptrs.add(queuePtrOf(place));
      }
      assert.equal(ptrs.size, queues);
      counts.forEach((count, worker) => {
        assert.equal(queuesOf(worker, workers, queues), count);
      });
    }
  }
});

test("the queues of a worker end before its vectors, and workers before the inflight region", () => {
  assert.ok(WORKER_QUEUES + QUEUES_MAX * QUEUE_STRIDE <= WORKER_IOVECS);
  assert.ok(workerPtrOf(WORKERS_MAX) <= INFLIGHT_PTR);
});

test("there are no more workers than queues, or than parts of memory", () => {
  assert.equal(workerCountFor(4, 2), 2);
  assert.equal(workerCountFor(2, 256), 2);
  assert.equal(workerCountFor(64, 256), WORKERS_MAX);
});
