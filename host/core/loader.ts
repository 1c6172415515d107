// `vringd/core`: the Wasm core for hosts of any kind, without koffi. Runs in Node, Deno, Bun and browsers.
import { instantiate } from "../../build/core.js";

/** Where the core's state lies in memory, what step() returns, and the other numbers that it shares with a host. */
export * as layout from "../../assembly/abi/index.ts";
/** The submission and completion entries that the core writes and reads. */
export * as uring from "../../assembly/spec/io-uring.ts";
/** Requests, statuses and the configuration space of virtio-blk (virtio 1.2, 5.2). */
export * as virtioBlk from "../../assembly/spec/virtio-blk.ts";
/** Virtqueues (virtio 1.2, 2.7 and 2.8). */
export * as virtqueue from "../../assembly/spec/virtqueue.ts";

/** The core's exports, as its compiler describes them. */
export type Core = Awaited<ReturnType<typeof instantiate>>;

/** What the core can be loaded from: a compiled module, its bytes, a response that brings them, or where they are. */
export type CoreSource =
  | WebAssembly.Module
  | ArrayBuffer
  | ArrayBufferView<ArrayBuffer>
  | Response
  | Promise<Response>
  | URL
  | string;

/** Over which memory, and from where. */
export interface CoreOptions {
  /**
   * The memory that the core works in, from 16 pages up; `layout` has the map. Shared memory, of 65,536 pages at the
   * most, gets core.wasm; any other gets core.plain.wasm.
   */
  memory: WebAssembly.Memory;
  /** Left out: the file that lies beside this module. */
  source?: CoreSource;
}

/**
 * Makes an instance of the core over a memory. It imports nothing else, and touches nothing until it is called: instances
 * over the same memory are as many workers.
 *
 * Throws WebAssembly.LinkError for a memory that doesn't fit, and what fetch() or the file system throw for a source that
 * can't be read.
 *
 * @example
 * const memory = new WebAssembly.Memory({ initial: 1024, maximum: 65536, shared: true });
 * const core = await loadCore({ memory });
 */
export async function loadCore({ memory, source = besideThis(memory) }: CoreOptions): Promise<Core> {
  return instantiate(await compile(await source), { env: { memory } });
}

function besideThis(memory: WebAssembly.Memory): URL {
  const isShared = Object.prototype.toString.call(memory.buffer) === "[object SharedArrayBuffer]";
  // Each in full, so that bundlers find the files.
  return isShared ? new URL("./core.wasm", import.meta.url) : new URL("./core.plain.wasm", import.meta.url);
}

async function compile(source: Awaited<CoreSource>): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  if (source instanceof URL || typeof source === "string")
    return WebAssembly.compile(await read(new URL(source, import.meta.url)));
  if (typeof Response !== "undefined" && source instanceof Response)
    return WebAssembly.compile(await bytesOf(source));
  return WebAssembly.compile(source as ArrayBuffer | ArrayBufferView);
}

async function read(url: URL): Promise<ArrayBuffer | ArrayBufferView> {
  if (url.protocol !== "file:") return bytesOf(await fetch(url));
  // Node's fetch() knows no files. Not written out, so that bundlers for browsers don't look for it.
  const fileSystem = "node:fs/promises";
  const { readFile } = (await import(fileSystem)) as typeof import("node:fs/promises");
  return readFile(url);
}

async function bytesOf(response: Response): Promise<ArrayBuffer | ArrayBufferView> {
  if (!response.ok)
    throw new Error(`${response.url} can't be loaded: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}
