// Where log lines go: a descriptor that may take none for a while. Nothing waits for whoever reads it; lines that find no room are
// lost, and counted.
import { writeSync } from "node:fs";

/** How long a full pipe is left alone before it is offered the count. */
const RETRY_MS = 1000;

export class LogOutput {
  /** Of a line whose beginning was taken: it must come first, or the next line would stand behind half of one. */
  private rest = Buffer.alloc(0);
  private lost = 0;
  private timer: NodeJS.Timeout | undefined;

  /** `lostLine`: a line that says how many were lost. */
  constructor(
    private readonly fd: number,
    private readonly lostLine: (count: number) => string,
  ) {}

  write(line: string): void {
    this.tellLost();
    // Behind a count that found no room there is none for a line.
    if (this.lost > 0 || !this.take(line)) this.lose();
  }

  private lose(): void {
    this.lost++;
    this.timer ??= setInterval(() => this.tellLost(), RETRY_MS).unref();
  }

  private tellLost(): void {
    if (this.lost === 0 || !this.take(this.lostLine(this.lost))) return;
    this.lost = 0;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** False if nothing of it was taken. */
  private take(line: string): boolean {
    if (this.rest.length > 0) this.rest = this.rest.subarray(this.put(this.rest));
    if (this.rest.length > 0) return false;
    const bytes = Buffer.from(line);
    const taken = this.put(bytes);
    if (taken > 0) this.rest = bytes.subarray(taken);
    return taken > 0;
  }

  /** How many bytes were taken. A full pipe or a closed terminal must not end the disk. */
  private put(bytes: Uint8Array): number {
    try {
      return writeSync(this.fd, bytes);
    } catch {
      return 0;
    }
  }
}
