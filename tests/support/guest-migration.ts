// Moves a guest from one QEMU to another, by the monitor of the first.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { QemuGuest } from "./guest.ts";
import { isListening } from "./listening.ts";
import { until } from "./until.ts";

/** On a machine that has much else to do. */
const MOVE_MS_MAX = 600_000;
const LOOK_MS = 100;
const STILL_MS = 20_000;

/** Resolves with the downtime in milliseconds, as QEMU has it. */
export async function migrate(source: QemuGuest, incoming: string): Promise<number> {
  await begin(source, incoming);
  const { downtime } = await reached(source, "completed");
  return Number(downtime);
}

/**
 * Waits for the next round of the load in a guest that came by a migration. QEMU 7.2 leaves such a guest halted now and then: its
 * timer's interrupt is pending (`info lapic` has its vector in IRR, `info registers` has HLT=1), and the processor does not look. Any
 * other interrupt makes it look, such as that of a line typed, which the load's script passes over.
 */
export async function nextRound(guest: QemuGuest): Promise<void> {
  for (const deadline = performance.now() + MOVE_MS_MAX; performance.now() < deadline; guest.send("")) {
    if (await hasReported(guest)) return;
  }
  const state = await Promise.all(["info registers", "info lapic"].map((command) => ask(guest, command)));
  assert.fail(`The guest does nothing for ${MOVE_MS_MAX} ms.\n${state.join("\n")}\n${guest.console}`);
}

async function hasReported(guest: QemuGuest): Promise<boolean> {
  try {
    await guest.waitForReport("ROUND", STILL_MS);
    return true;
  } catch (error) {
    if (guest.hasEnded) throw error;
    return false;
  }
}

function ask(guest: QemuGuest, command: string): Promise<unknown> {
  return guest.qmp("human-monitor-command", { "command-line": command });
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
