// The package as another program has it: what its names lead to, and what it leaves alone.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { MemoryDisk, serve } from "vringd";
import { layout, loadCore } from "vringd/core";
import { PROGRAM } from "../support/vringd.ts";

const root = join(dirname(PROGRAM), "..");
const memoryOf = (shared: boolean) => new WebAssembly.Memory({ initial: 1024, maximum: 65536, shared });

describe("vringd", () => {
  test("leads to its parts by name", () => {
    for (const [name, path] of [
      ["vringd", "build/index.mjs"],
      ["vringd/core", "build/core-loader.mjs"],
      ["vringd/core.wasm", "build/core.wasm"],
      ["vringd/core.plain.wasm", "build/core.plain.wasm"],
      ["vringd/schema/50-vringd-blk.json", "schema/50-vringd-blk.json"],
    ] as const) {
      assert.equal(fileURLToPath(import.meta.resolve(name)), join(root, path));
    }
  });

  test("leaves the process's signals and exceptions to the program", async () => {
    const names = ["SIGTERM", "SIGINT", "SIGHUP", "uncaughtException", "unhandledRejection", "exit"];
    const count = () => names.map((name) => process.listenerCount(name));
    const before = count();
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    {
      await using _ = await serve({ disk: new MemoryDisk(4096), socketPath: join(directory, "blk.sock") });
      assert.deepEqual(count(), before);
    }
    rmSync(directory, { recursive: true });
  });
});

describe("vringd/core", () => {
  test("knows nothing of koffi, nor of Node where there is none", () => {
    const code = readFileSync(new URL(import.meta.resolve("vringd/core")), "utf8");
    assert.doesNotMatch(code, /koffi|require\(|^import /m);
  });

  for (const shared of [true, false]) {
    test(`loads over ${shared ? "shared" : "plain"} memory, and finds its file by itself`, async () => {
      const memory = memoryOf(shared);
      const core = await loadCore({ memory });
      core.openWorker(0, 1, 1, -1);
      assert.equal(core.queueFault(0), 0);
      assert.equal(core.isStopped(0), true);
      assert.ok(memory.buffer.byteLength > layout.WORKERS_PTR);
    });
  }

  test("loads from bytes, a module, an address, and a response", async () => {
    const path = fileURLToPath(import.meta.resolve("vringd/core.wasm"));
    const bytes = new Uint8Array(readFileSync(path));
    const server = createServer((_, response) => response.end(bytes)).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/core.wasm`;
    const sources = [bytes, await WebAssembly.compile(bytes), new URL(`file://${path}`), url, fetch(url)];
    for (const source of sources) {
      const core = await loadCore({ memory: memoryOf(true), source });
      assert.equal(typeof core.step, "function");
    }
    await new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
  });

  test("says what it could not load", async () => {
    const server = createServer((_, response) => response.writeHead(404).end()).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const source = `http://127.0.0.1:${(server.address() as AddressInfo).port}/none.wasm`;
    await assert.rejects(
      loadCore({ memory: memoryOf(true), source }),
      /none\.wasm can't be loaded: 404 Not Found/,
    );
    server.closeAllConnections();
    server.close();
  });
});
