// For programs of ours that run in a guest (guest-project.ts): how they talk with the test outside.
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { MARK } from "./guest-image.ts";

/** As the guest's script does: GuestProcess.waitForReport() gets it. */
export function report(key: string, value: string): void {
  writeFileSync("/dev/kmsg", `<1>${MARK} report ${key}=${value}\n`);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Tells the test that it may go on, and waits until it says so, by GuestProcess.send(). */
export async function letOutside(key: string): Promise<void> {
  report(key, "now");
  if ((await lines.next()).done) throw new Error("nobody is outside any more");
}
