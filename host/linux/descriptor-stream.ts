// A descriptor that never waits, such as a terminal's, as a stream of Node's.
import { readSync, writeSync } from "node:fs";
import { Duplex } from "node:stream";
import { whenReadable, whenWritable } from "./readiness.ts";

const READ_BYTES = 65536;

/** The descriptor stays whose it is. The stream ends when the other side has gone. */
export class DescriptorStream extends Duplex {
  private readonly waits = new Set<{ stop(): void }>();

  constructor(private readonly fd: number) {
    super({ allowHalfOpen: false });
  }

  override _read(): void {
    const bytes = Buffer.allocUnsafe(READ_BYTES);
    const length = this.attempt(() => readSync(this.fd, bytes));
    if (length === undefined) this.wait(whenReadable, () => this._read());
    else this.push(length > 0 ? bytes.subarray(0, length) : null);
  }

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error) => void): void {
    const length = this.attempt(() => writeSync(this.fd, bytes));
    const rest = bytes.subarray(length ?? 0);
    if (rest.length === 0) done();
    else this.wait(whenWritable, () => this._write(rest, "", done));
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    for (const wait of this.waits) wait.stop();
    done(error);
  }

  /** Undefined: not now. A terminal that nobody has open fails: that is its end. */
  private attempt(move: () => number): number | undefined {
    try {
      return move();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return undefined;
      this.destroy();
      return 0;
    }
  }

  private wait(when: typeof whenReadable, goOn: () => void): void {
    if (this.destroyed) return;
    const wait = when(this.fd, () => {
      wait.stop();
      if (this.waits.delete(wait) && !this.destroyed) goOn();
    });
    this.waits.add(wait);
  }
}
