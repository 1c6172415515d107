// node:test as every test file gets it (esbuild.config.mjs): each test has a limit, so that a hang is that test's failure
// and the others of its file still run.
import * as node from "node:test";

export const { afterEach, beforeEach, mock, run, skip, todo } = node;

/** For tests that say nothing of their own; the slowest of those take a quarter of it on a busy machine. */
const LIMIT_MS = 180_000;
/** From the end of the last test to that of the process. What a test that failed has left open must not keep it. */
const EXIT_MS = 30_000;

type Options = node.TestOptions;
type Args = [name?: unknown, options?: unknown, fn?: unknown];

let limitMs = LIMIT_MS;

/** A limit of its own for each test of this file that comes after. */
export function limitTests(ms: number): void {
  limitMs = ms;
}

/** The three arguments, each of which may be left out. */
function sorted(args: Args): [name: string | undefined, options: Options, fn: unknown] {
  const name = args.find((arg) => typeof arg === "string");
  const options = args.find((arg) => typeof arg === "object" && arg !== null);
  return [
    name as string | undefined,
    { ...(options as Options) },
    args.find((arg) => typeof arg === "function"),
  ];
}

function bounded(register: typeof node.test) {
  return (...args: Args) => {
    const [name, options, fn] = sorted(args);
    options.timeout ??= limitMs;
    return register(name ?? "", options, fn as never);
  };
}

/** A suite's limit is that of each of its tests: how long all of them take tells of the machine, and of no hang. */
function suite(register: typeof node.describe) {
  return (...args: Args) => {
    const [name, { timeout = 0, ...options }, fn] = sorted(args);
    // Node calls `fn` at once.
    const body = (context: unknown) => {
      const outer = limitMs;
      limitMs = Math.max(outer, timeout);
      try {
        return (fn as (context: unknown) => unknown)(context);
      } finally {
        limitMs = outer;
      }
    };
    return register(name ?? "", options, body as never);
  };
}

function hook(register: typeof node.before) {
  return (fn: never, options?: node.HookOptions) => register(fn, { timeout: limitMs, ...options });
}

export const test = Object.assign(bounded(node.test), node.test) as typeof node.test;
export const it = Object.assign(bounded(node.it as never), node.it) as typeof node.it;
export const describe = Object.assign(suite(node.describe), node.describe) as typeof node.describe;
export const before = hook(node.before) as typeof node.before;
export const after = hook(node.after) as typeof node.after;
export default test;

node.after(() => {
  setTimeout(() => {
    process.stderr.write("something keeps this file's process: a test has left it open\n");
    process.exit(1);
  }, EXIT_MS).unref();
});
