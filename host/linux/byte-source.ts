// Bytes of a device, a pipe or a file, read in order by whoever must not keep its thread waiting.
import { closeSync, constants, openSync, read, readSync, type Stats, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { reasonOf, StartError } from "../errors.ts";
import { whenReadable } from "./readiness.ts";

/** How soon a source is asked again that gave nothing. */
const RETRY_MS = 1000;

const readLater = promisify(read);

export class ByteSource {
  private constructor(
    private readonly fd: number,
    private readonly isFile: boolean,
  ) {}

  /** Throws StartError. */
  static open(path: string): ByteSource {
    try {
      const status: Stats = statSync(path);
      // A pipe that has a writer of our own never ends, whoever else comes and goes.
      const access = status.isFIFO() ? constants.O_RDWR : constants.O_RDONLY;
      return new ByteSource(openSync(path, access | constants.O_NONBLOCK), status.isFile());
    } catch (error) {
      throw new StartError(`can't read from ${path}: ${reasonOf(error)}`);
    }
  }

  /**
   * Fills the beginning of `bytes` and resolves with how much that is, as soon as it is more than nothing. A source that has ended or
   * fails may go on later: `isDry` is told why it does not now. Rejects when told to stop.
   */
  async some(bytes: Uint8Array, stopping: AbortSignal, isDry: (reason: string) => void): Promise<number> {
    for (;;) {
      const result = await this.read(bytes, stopping).catch((error: Error) => error);
      if (typeof result === "number" && result > 0) return result;
      stopping.throwIfAborted();
      isDry(result === 0 ? "it has ended" : reasonOf(result));
      await sleep(RETRY_MS, undefined, { signal: stopping });
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  private async read(bytes: Uint8Array, stopping: AbortSignal): Promise<number> {
    // A disk may take its time; what is no file never does.
    if (this.isFile) return (await readLater(this.fd, bytes, 0, bytes.length, null)).bytesRead;
    for (;;) {
      try {
        return readSync(this.fd, bytes);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      }
      await this.readable(stopping);
    }
  }

  private readable(stopping: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = () => {
        watch.stop();
        stopping.removeEventListener("abort", end);
        stopping.aborted ? reject(stopping.reason) : resolve();
      };
      const watch = whenReadable(this.fd, end);
      stopping.addEventListener("abort", end);
    });
  }
}
