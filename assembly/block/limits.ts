// How much a disk may do in a time: leaky buckets, which all workers share. A bucket says until when what was taken is paid for at
// its rate; as long as that is no further ahead than its room, the next request is taken, however large it is, and paid for.

import { DEVICE_LIMIT_REQUEST_BYTES, DEVICE_LIMITS } from "../abi/device-block.ts";
import {
  LIMIT_BURST_PAID_UNTIL,
  LIMIT_BURST_PRICE,
  LIMIT_BURST_ROOM,
  LIMIT_BYTES,
  LIMIT_PAID_UNTIL,
  LIMIT_PRICE,
  LIMIT_READ_BYTES,
  LIMIT_READS,
  LIMIT_REQUESTS,
  LIMIT_ROOM,
  LIMIT_STRIDE,
  LIMIT_WRITES,
  LIMIT_WRITTEN_BYTES,
} from "../abi/limits.ts";
import { DEVICE_PTR } from "../abi/memory.ts";
import { nowNs } from "../io/statistics.ts";
import {
  RANGE_NUM_SECTORS,
  RANGE_SIZE,
  SECTOR_SHIFT,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../spec/virtio-blk.ts";
import { maxRanges } from "./disk.ts";
import { hasHeader, Request } from "./request.ts";

/** An eighth of what 10 ms allow: a worker leaves the rest of the others' share to them. */
const TURN_NS: u64 = 1_250_000;

/** No request costs more than this: a sum of such costs and times does not wrap. */
const COST_MAX: f64 = 1e18;

/** The clock of this turn, and the most that any bucket was charged since. */
let now: u64 = 0;
let spent: u64 = 0;

/** Whether this worker has taken its share of a turn. */
export function isShareSpent(): bool {
  return spent >= TURN_NS;
}

/** Takes a request that was read into account: 0, or for how many nanoseconds it is not to be taken. */
export function admitRequest(request: Request): u64 {
  const time = nowNs();
  if (time !== now) spent = 0;
  now = time;
  if (!hasHeader(request) || request.inBytes === 0) return 0;
  const isRead = request.type === VIRTIO_BLK_T_IN;
  const byteLength = isRead ? request.inBytes - 1 : changedBytes(request);
  // FLUSH, GET_ID and what no disk serves.
  if (byteLength === NOT_LIMITED) return 0;
  const bytes = <f64>byteLength;
  const requests = requestsIn(bytes);
  const sizeBucket = bucketAt(isRead ? LIMIT_READ_BYTES : LIMIT_WRITTEN_BYTES);
  const countBucket = bucketAt(isRead ? LIMIT_READS : LIMIT_WRITES);
  const wait = max<u64>(
    max<u64>(waitFor(bucketAt(LIMIT_BYTES)), waitFor(bucketAt(LIMIT_REQUESTS))),
    max<u64>(waitFor(sizeBucket), waitFor(countBucket)),
  );
  if (wait !== 0) return wait;
  const most = max<u64>(
    max<u64>(charge(bucketAt(LIMIT_BYTES), bytes), charge(bucketAt(LIMIT_REQUESTS), requests)),
    max<u64>(charge(sizeBucket, bytes), charge(countBucket, requests)),
  );
  spent += most;
  return 0;
}

const NOT_LIMITED: u64 = u64.MAX_VALUE;

/** Discards and write-zeroes count as writes of what they name. */
function changedBytes(request: Request): u64 {
  if (request.type === VIRTIO_BLK_T_OUT) return request.outBytes;
  if (request.type !== VIRTIO_BLK_T_DISCARD && request.type !== VIRTIO_BLK_T_WRITE_ZEROES) return NOT_LIMITED;
  // More than fits is refused, and was not kept.
  if (request.outBytes > <u64>maxRanges() * RANGE_SIZE) return 0;
  let sectors: u64 = 0;
  const end = request.table + <usize>(request.outBytes / RANGE_SIZE) * RANGE_SIZE;
  for (let range = request.table; range < end; range += RANGE_SIZE) {
    sectors += load<u32>(range, RANGE_NUM_SECTORS);
  }
  return sectors << SECTOR_SHIFT;
}

/** A large request counts as several, if the host has said how large one is. */
function requestsIn(bytes: f64): f64 {
  const most = load<u32>(DEVICE_PTR, DEVICE_LIMIT_REQUEST_BYTES);
  return most === 0 ? 1 : Math.max(bytes / <f64>most, 1);
}

function bucketAt(index: i32): usize {
  return <usize>(DEVICE_PTR + DEVICE_LIMITS) + <usize>index * LIMIT_STRIDE;
}

function waitFor(bucket: usize): u64 {
  if (priceOf(bucket + LIMIT_PRICE) === 0) return 0;
  const average = excess(bucket + LIMIT_PAID_UNTIL, bucket + LIMIT_ROOM);
  if (priceOf(bucket + LIMIT_BURST_PRICE) === 0) return average;
  return max<u64>(average, excess(bucket + LIMIT_BURST_PAID_UNTIL, bucket + LIMIT_BURST_ROOM));
}

function excess(paidUntil: usize, room: usize): u64 {
  const until = atomic.load<u64>(paidUntil);
  const most = now + atomic.load<u64>(room);
  return until > most ? until - most : 0;
}

/** How long the average takes to pay for it. */
function charge(bucket: usize, units: f64): u64 {
  const price = priceOf(bucket + LIMIT_PRICE);
  if (price === 0) return 0;
  const burstPrice = priceOf(bucket + LIMIT_BURST_PRICE);
  if (burstPrice !== 0) pay(bucket + LIMIT_BURST_PAID_UNTIL, costOf(units, burstPrice));
  const cost = costOf(units, price);
  pay(bucket + LIMIT_PAID_UNTIL, cost);
  return cost;
}

function costOf(units: f64, price: f64): u64 {
  return <u64>Math.min(units * price, COST_MAX);
}

/** What is paid until a time that has passed is paid until now. Each turn of the loop is one that another worker has won. */
function pay(word: usize, cost: u64): void {
  for (let before = atomic.load<u64>(word); ; ) {
    const after = min<u64>(max<u64>(before, now) + cost, PAID_MAX);
    const found = atomic.cmpxchg<u64>(word, before, after);
    if (found === before) return;
    before = found;
  }
}

const PAID_MAX: u64 = 1 << 62;

/** The host may change it at any time. */
function priceOf(field: usize): f64 {
  return reinterpret<f64>(atomic.load<u64>(field));
}
