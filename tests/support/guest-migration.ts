// Moves a guest from one QEMU to another, by the monitor of the first.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { QemuGuest } from "./guest.ts";
import { isListening } from "./listening.ts";
import { until } from "./until.ts";

/** On a machine that has much else to do. */
export const MOVE_MS_MAX = 600_000;
const LOOK_MS = 100;

/** Resolves with the downtime in milliseconds, as QEMU has it. */
export async function migrate(source: QemuGuest, incoming: string): Promise<number> {
  await begin(source, incoming);
  const { downtime } = await reached(source, "completed");
  return Number(downtime);
}

/** To a destination that listens. */
export async function begin(source: QemuGuest, incoming: string): Promise<void> {
  await until(() => isListening(incoming), "the destination listens", MOVE_MS_MAX);
  await source.qmp("migrate", { uri: `unix:${incoming}` });
}

/** Resolves with what QEMU says of the migration when it is in this state. */
export async function reached(source: QemuGuest, wanted: string): Promise<Record<string, unknown>> {
  for (const deadline = performance.now() + MOVE_MS_MAX; ; ) {
    const state = (await source.qmp("query-migrate")) as Record<string, unknown>;
    if (state.status === wanted) return state;
    const reason = JSON.stringify(state);
    assert.ok(!ENDS.includes(String(state.status)), reason);
    assert.ok(performance.now() < deadline, reason);
    await sleep(LOOK_MS);
  }
}

const ENDS = ["completed", "failed", "cancelled"];
