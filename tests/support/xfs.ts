// A file system of a test's own whose files can share blocks.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LoopDevice, loopUnavailable, run } from "./loop-device.ts";
import { whyNoProgram } from "./skip.ts";

/** What mkfs.xfs makes at the least. */
const BYTES = 320 << 20;

export function xfsUnavailable(): string | undefined {
  return whyNoProgram("mkfs.xfs") ?? loopUnavailable();
}

export class Xfs implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "vringd-xfs-"));
  private readonly device = new LoopDevice(BYTES);

  constructor() {
    run("mkfs.xfs", "-q", this.device.path);
    run("mount", this.device.path, this.directory);
  }

  at(name: string): string {
    return join(this.directory, name);
  }

  [Symbol.dispose](): void {
    run("umount", this.directory);
    this.device[Symbol.dispose]();
    rmSync(this.directory, { recursive: true });
  }
}
