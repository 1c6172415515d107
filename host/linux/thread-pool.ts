// Foreign functions in libuv's thread pool, for what may wait longer than an event loop should. Results are as in a CQE: a count or
// a negated errno.
import { EIO } from "./errno.ts";
import * as libc from "./libc.ts";

// biome-ignore lint/suspicious/noExplicitAny: koffi types its functions so.
type Foreign = { async: (...args: any[]) => void };

/** koffi refuses more calls at a time; and the pool has only so many threads. */
const CALLS_MAX = 64;

let calls = 0;
const queued: (() => void)[] = [];

/** Memory that an argument is the address of is the caller's to hold until the call has ended. */
export function callInPool(fn: Foreign, ...args: unknown[]): Promise<number> {
  return new Promise((resolve) => {
    const run = () => {
      calls++;
      fn.async(...args, (error: unknown, result: number) => {
        const value = error ? -EIO : result === -1 ? -libc.errno() : result;
        calls--;
        resolve(value);
        queued.shift()?.();
      });
    };
    if (calls < CALLS_MAX) run();
    else queued.push(run);
  });
}
