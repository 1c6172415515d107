// Waiting until descriptors can be read. Whoever waits for one waits for it again and again, and to begin and end a watch is
// several system calls: so a watch stays for the next wait, as long as nothing speaks against it.
import { whenReadable } from "../linux/readiness.ts";

interface Watch {
  stop(): void;
  /** Whoever waits now. */
  waiter: (() => void) | undefined;
}

/** Deno's event loop tells of a descriptor once. */
const isOneShot = "Deno" in globalThis;

export class ReadWatches {
  private readonly watches = new Map<number, Watch>();

  /** Calls `ready` once, when `fd` can be read. One waits for a descriptor at a time. */
  wait(fd: number, ready: () => void): void {
    const watch = this.watches.get(fd) ?? this.begin(fd);
    watch.waiter = ready;
  }

  /** Nobody waits any more. */
  end(fd: number): void {
    this.watches.get(fd)?.stop();
    this.watches.delete(fd);
  }

  /** Ends the watches for which nobody waits: their descriptors may be closed, and others get their numbers. */
  endIdle(): void {
    for (const [fd, { waiter }] of this.watches) if (waiter === undefined) this.end(fd);
  }

  close(): void {
    for (const fd of [...this.watches.keys()]) this.end(fd);
  }

  private begin(fd: number): Watch {
    const { stop } = whenReadable(fd, () => this.ready(fd));
    const watch = { stop, waiter: undefined };
    this.watches.set(fd, watch);
    return watch;
  }

  private ready(fd: number): void {
    const watch = this.watches.get(fd)!;
    const { waiter } = watch;
    watch.waiter = undefined;
    // The event loop would ask again and again, for something that nobody reads.
    if (waiter === undefined || isOneShot) this.end(fd);
    waiter?.();
  }
}
