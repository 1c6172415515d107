// A worker's request slots: as many requests as it has in flight at the most, made once.

import { IOVECS_MAX, REQUEST_STRIDE, REQUESTS_MAX, WORKER_IOVECS, WORKER_REQUESTS } from "../abi/layout.ts";
import { Request } from "../block/request.ts";
import { IOVEC_SIZE } from "../spec/io-uring.ts";
import { TAG_REQUEST, userDataOf } from "./user-data.ts";

let worker: usize = 0;
let firstFree: usize = 0;

export let requestCount: u32 = 0;
export let freeCount: u32 = 0;

/** Makes `count` requests, all free, in the worker's part of memory. */
export function openPool(workerPtr: usize, count: u32): void {
  worker = workerPtr;
  requestCount = min<u32>(count, REQUESTS_MAX);
  firstFree = 0;
  freeCount = 0;
  for (let i = requestCount; i-- > 0; ) {
    const request = requestAt(i);
    request.userData = userDataOf(TAG_REQUEST, i);
    request.table = worker + WORKER_IOVECS + <usize>i * IOVECS_MAX * IOVEC_SIZE;
    request.placeCount = 1;
    request.lastPlace = request;
    release(request);
  }
}

export function requestAt(index: u32): Request {
  return changetype<Request>(worker + WORKER_REQUESTS + <usize>index * REQUEST_STRIDE);
}

export function hasFree(): bool {
  return firstFree !== 0;
}

/** The request that acquire() would take. Only if hasFree(). */
export function nextFree(): Request {
  return changetype<Request>(firstFree);
}

/** Takes nextFree(), and those behind it whose places it has filled. No completion or cancellation is theirs. */
export function acquire(request: Request): void {
  request.isFree = 0;
  request.isCancelled = 0;
  firstFree = changetype<usize>(request.lastPlace.nextFree);
  request.lastPlace.nextFree = changetype<Request>(0);
  freeCount -= request.placeCount;
}

export function release(request: Request): void {
  request.isFree = 1;
  request.lastPlace.nextFree = changetype<Request>(firstFree);
  firstFree = changetype<usize>(request);
  freeCount += request.placeCount;
}
