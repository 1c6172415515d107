// Bytes of a device, a pipe or a file, read once and in order by whoever must not keep its thread waiting.
import { closeSync, constants, fstatSync, openSync, read, readSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { reasonOf, StartError } from "../errors.ts";
import { onAbort } from "../process/abort.ts";
import { whenReadable } from "./readiness.ts";
import { addStatusFlags } from "./status-flags.ts";

/** How soon a source is asked again that has ended, or fails. */
const RETRY_MS = 1000;
/** How soon one is asked again that has nothing now, and can't say when it has. */
const LOOK_MS = 20;

const STDIN = 0;
// A terminal is to stay whose it is.
const FLAGS = constants.O_NONBLOCK | constants.O_NOCTTY;

const readLater = promisify(read);

export class ByteSource {
  /** What is being read of a file, or was read and not taken: a request that is given up leaves it to the next one. */
  private ahead: Promise<Uint8Array> | undefined;
  private isDry = false;

  private constructor(
    private readonly fd: number,
    /** Of a file or a block device, whose reads wait for a disk or a network, whatever the descriptor's flags say. */
    private readonly mayWait: boolean,
  ) {}

  /** Throws StartError. */
  static open(path: string): ByteSource {
    try {
      const status = statSync(path);
      if (status.isDirectory()) throw new Error("it is a directory; give a file, a pipe or a device");
      const fd = status.isFIFO() ? openPipe(path) : openSync(path, constants.O_RDONLY | FLAGS);
      return new ByteSource(fd, status.isFile() || status.isBlockDevice());
    } catch (error) {
      throw new StartError(`can't read from ${path}: ${reasonOf(error)}`, error);
    }
  }

  /** Throws StartError. */
  static standardInput(): ByteSource {
    // What can be opened again is not to be changed for those who share it. A socket can't, and is one end of its own.
    if (!fstatSync(STDIN).isSocket()) return ByteSource.open("/dev/stdin");
    addStatusFlags(STDIN, constants.O_NONBLOCK);
    return new ByteSource(STDIN, false);
  }

  /**
   * Resolves with the next bytes, as soon as there are any. A source that has ended or fails may go on later: `becameDry` is told
   * why it does not now. Rejects when told to stop, at once, and nothing of the source is lost.
   */
  async some(
    atMost: number,
    stopping: AbortSignal,
    becameDry: (reason: string) => void,
  ): Promise<Uint8Array> {
    for (;;) {
      stopping.throwIfAborted();
      const result = await this.next(atMost, stopping).catch((error: Error) => error);
      const hasBytes = result instanceof Uint8Array && result.length > 0;
      if (!hasBytes) stopping.throwIfAborted();
      if (!hasBytes && !this.isDry) becameDry(result instanceof Error ? reasonOf(result) : "it has ended");
      this.isDry = !hasBytes;
      if (hasBytes) return result;
      await sleep(RETRY_MS, undefined, { signal: stopping });
    }
  }

  close(): void {
    const close = () => closeSync(this.fd);
    // A read that has not begun yet would find another file at the descriptor's number.
    if (this.ahead === undefined) close();
    else this.ahead.then(close, close);
  }

  /** Nothing if the source has ended. */
  private async next(atMost: number, stopping: AbortSignal): Promise<Uint8Array> {
    if (!this.mayWait) return this.available(atMost, stopping);
    this.ahead ??= this.readAhead(atMost);
    const bytes = await orStopped(this.ahead, stopping);
    this.ahead = bytes.length > atMost ? Promise.resolve(bytes.subarray(atMost)) : undefined;
    return bytes.subarray(0, atMost);
  }

  /** In a thread of libuv's. */
  private async readAhead(atMost: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(atMost);
    try {
      const { bytesRead } = await readLater(this.fd, bytes, 0, atMost, null);
      return bytes.subarray(0, bytesRead);
    } catch (error) {
      this.ahead = undefined;
      throw error;
    }
  }

  private async available(atMost: number, stopping: AbortSignal): Promise<Uint8Array> {
    const bytes = new Uint8Array(atMost);
    for (;;) {
      try {
        return bytes.subarray(0, readSync(this.fd, bytes));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      }
      await this.readable(stopping);
    }
  }

  private async readable(stopping: AbortSignal): Promise<void> {
    let goOn!: () => void;
    const hasMore = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const watch = watchOrLook(this.fd, goOn);
    try {
      await orStopped(hasMore, stopping);
    } finally {
      watch.stop();
    }
  }
}

/** One that has a writer of our own never ends, whoever else comes and goes. Who may read it may not always write. */
function openPipe(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | FLAGS);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EACCES") throw error;
    return openSync(path, constants.O_RDONLY | FLAGS);
  }
}

/** Some devices, such as /dev/hwrng, have nothing at times and can't be watched (EPERM of epoll_ctl(2)). */
function watchOrLook(fd: number, callback: () => void): { stop(): void } {
  try {
    return whenReadable(fd, callback);
  } catch {
    const timer = setTimeout(callback, LOOK_MS);
    return { stop: () => clearTimeout(timer) };
  }
}

function orStopped<T>(promise: Promise<T>, stopping: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const unhear = onAbort(stopping, () => reject(stopping.reason));
    promise.then(resolve, reject).finally(unhear);
  });
}
