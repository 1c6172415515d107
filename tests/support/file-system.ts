// What a guest's ext4 file system is like, as a host sees its disk.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

/** Changes nothing. */
export function assertSound(imagePath: string): void {
  const { status, stdout } = spawnSync("e2fsck", ["-f", "-n", imagePath], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
}
