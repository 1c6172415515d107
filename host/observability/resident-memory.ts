// How much memory the process has, from a file that stays open: once it serves, the daemon opens nothing any more.
import { closeSync, openSync, readSync } from "node:fs";

export class ResidentMemory {
  private readonly fd = openSync("/proc/self/status", "r");
  private readonly text = Buffer.alloc(4096);

  /** In bytes, or 0 if the kernel doesn't say. */
  read(): number {
    const byteLength = readSync(this.fd, this.text, 0, this.text.length, 0);
    const kilobytes = /^VmRSS:\s*(\d+) kB$/m.exec(this.text.toString("latin1", 0, byteLength))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  }

  close(): void {
    closeSync(this.fd);
  }
}
