// What operators and front-ends do to the model's core while it runs: a limit on its requests, with a clock for it; and the log of a guest
// that is moved.
import assert from "node:assert/strict";
import { DEVICE_LIMITED, DEVICE_LIMITS } from "../../assembly/abi/device-block.ts";
import {
  LIMIT_BURST_PAID_UNTIL,
  LIMIT_PAID_UNTIL,
  LIMIT_PRICE,
  LIMIT_REQUESTS,
  LIMIT_ROOM,
  LIMIT_STRIDE,
} from "../../assembly/abi/limits.ts";
import { DEVICE_PTR, DIRTY_LOG_PAGE, DIRTY_LOG_PTR, WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { WORKER_NOW } from "../../assembly/abi/worker.ts";
import {
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import { type CoreHarness, DATA_GPA, DATA_SIZE, GUEST_GPA, GUEST_WINDOW_SIZE } from "./core-harness.ts";
import type { Limit } from "./model-script.ts";

/** Whole bytes of the log. */
const GUEST_MEMORY = [
  [GUEST_GPA, GUEST_WINDOW_SIZE],
  [DATA_GPA, DATA_SIZE],
] as const;

export class ModelClock {
  private ns = 1_000_000_000;

  constructor(private readonly core: CoreHarness) {
    this.limit({ priceNs: 0, roomNs: 0 });
  }

  get nowNs(): number {
    return this.ns;
  }

  /** All kinds of requests that limits count. What was owed is forgotten, as the host has it. */
  limit({ priceNs, roomNs }: Limit): void {
    const { view } = this.core;
    const bucket = DEVICE_PTR + DEVICE_LIMITS + LIMIT_REQUESTS * LIMIT_STRIDE;
    view.setFloat64(bucket + LIMIT_PRICE, priceNs, true);
    view.setBigUint64(bucket + LIMIT_ROOM, BigInt(roomNs), true);
    view.setBigUint64(bucket + LIMIT_PAID_UNTIL, 0n, true);
    view.setBigUint64(bucket + LIMIT_BURST_PAID_UNTIL, 0n, true);
    view.setUint32(DEVICE_PTR + DEVICE_LIMITED, priceNs > 0 ? 1 : 0, true);
    this.pass(0);
  }

  pass(ns: number): void {
    this.ns += ns;
    this.core.view.setFloat64(WORKERS_PTR + WORKER_NOW, this.ns, true);
    this.core.wake();
  }
}

const LIMITED = [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES];

/** How many requests may complete under a limit, as their driver sees it. */
export class Allowance {
  private readonly sinceNs: number;
  private completed = 0;

  /** `uncounted`: as many may have been taken before. */
  constructor(
    private readonly limit: Limit,
    private readonly clock: { readonly nowNs: number },
    private readonly uncounted: number,
  ) {
    this.sinceNs = clock.nowNs;
  }

  /** One has completed. One more is taken than is paid for, and than there is room for. */
  count(type: number): void {
    const { priceNs, roomNs } = this.limit;
    if (priceNs === 0 || !LIMITED.includes(type)) return;
    this.completed++;
    const elapsedNs = this.clock.nowNs - this.sinceNs;
    const allowed = this.uncounted + 1 + Math.floor((roomNs + elapsedNs) / priceNs);
    assert.ok(this.completed <= allowed, `${this.completed} requests, where a limit allows ${allowed}`);
  }
}

export class ModelLog {
  private isOn = false;
  /** Pages that the device has written since the log was taken last, by their numbers. */
  private readonly written = new Set<number>();

  constructor(private readonly core: CoreHarness) {}

  setOn(isOn: boolean): void {
    this.take();
    this.isOn = isOn;
    this.core.setLogging(isOn);
  }

  /** A successor is told what its predecessor was. What that has not shown to the driver is done, and logged, once more. */
  restart(): void {
    this.written.clear();
    this.core.setLogging(this.isOn);
  }

  wrote(gpa: number, byteLength: number): void {
    if (!this.isOn || byteLength === 0) return;
    const last = Math.floor((gpa + byteLength - 1) / DIRTY_LOG_PAGE);
    for (let page = Math.floor(gpa / DIRTY_LOG_PAGE); page <= last; page++) this.written.add(page);
  }

  /** Once the core sleeps: all that the device has written is logged. */
  check(): void {
    for (const page of this.written) assert.ok(this.isLogged(page), `page ${page} is not logged`);
  }

  take(): void {
    for (const [gpa, byteLength] of GUEST_MEMORY) {
      const start = DIRTY_LOG_PTR + gpa / DIRTY_LOG_PAGE / 8;
      this.core.bytes.fill(0, start, start + byteLength / DIRTY_LOG_PAGE / 8);
    }
    this.written.clear();
  }

  private isLogged(page: number): boolean {
    return (this.core.bytes[DIRTY_LOG_PTR + Math.floor(page / 8)]! & (1 << (page % 8))) !== 0;
  }
}
