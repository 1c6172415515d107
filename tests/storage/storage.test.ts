// What each kind of storage says of itself to whoever serves it, and what workers make their engines from.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import { LinearMemory } from "../../host/memory/linear-memory.ts";
import { workerPtrOf } from "../../host/memory/worker-part.ts";
import { SILENT } from "../../host/process/log.ts";
import { MemoryDisk } from "../../host/storage/memory.ts";
import { ObjectStorage } from "../../host/storage/object.ts";
import { openStorage, type StorageChoice } from "../../host/storage/open.ts";
import type { EnginesSetup, Storage } from "../../host/storage/storage.ts";
import { whyNoDirect } from "../support/machine.ts";
import { skipWithout } from "../support/skip.ts";

const directory = mkdtempSync(join(tmpdir(), "storage-"));
after(() => rmSync(directory, { recursive: true }));
const memory = new LinearMemory(1);

const image = join(directory, "disk.img");
writeFileSync(image, "");
truncateSync(image, 1 << 20);

function open(path: string, changes: Partial<StorageChoice> = {}): Promise<Storage> {
  const choice: StorageChoice = {
    path,
    readOnly: false,
    direct: false,
    discard: "unmap",
    rangeSegments: 1,
    lock: "auto",
    lockTimeoutMs: 0,
    ...changes,
  };
  return openStorage(choice, new AbortController().signal, SILENT);
}

const setup = (onFailure = () => {}): EnginesSetup => ({ memory, workerCount: 1, engine: "auto", onFailure });

test("the engine of a file is made in any thread, from what can be sent there", async () => {
  const storage = await open(image);
  assert.equal(storage.isLocal, false);
  const engines = storage.openEngines(setup());
  const { recipe, form } = engines;
  assert.equal(recipe.place, "own-threads");
  assert.deepEqual(structuredClone(recipe), recipe);
  assert.ok(recipe.place === "own-threads" && recipe.fds.includes(form.fd));
  assert.equal(form.bounceFd, undefined);
  // The core keeps account of a file's failures.
  assert.equal(form.keepsAccount, false);
  assert.equal(engines.tellsFailures, false);
  engines.close();
  await storage.close();
});

test("O_DIRECT brings buffers for what it refuses, and takes them back", {
  skip: skipWithout(whyNoDirect(directory)),
}, async () => {
  const storage = await open(image, { direct: true });
  const before = readdirSync("/proc/self/fd").length;
  const engines = storage.openEngines(setup());
  const { recipe, form } = engines;
  assert.ok(storage.facts.direct);
  assert.notEqual(form.unalignedFd, form.fd);
  assert.ok(form.bounceFd! > 0);
  assert.ok(recipe.place === "own-threads" && recipe.fds.includes(form.bounceFd!));
  engines.close();
  assert.equal(readdirSync("/proc/self/fd").length, before);
  await storage.close();
});

const objects: [what: string, open: () => Promise<Storage>, byteLength: bigint][] = [
  ["memory", () => open("memory:1M"), 1n << 20n],
  ["an overlay", () => open(image, { overlay: join(directory, "changes") }), 1n << 20n],
  [
    "a file that ends within a block",
    () => {
      const path = join(directory, "short.img");
      writeFileSync(path, Buffer.alloc(700));
      return open(path, { readOnly: true });
    },
    1024n,
  ],
  ["an object", async () => new ObjectStorage(new MemoryDisk(4096), { name: "mine" }), 4096n],
];
for (const [what, openIt, byteLength] of objects) {
  test(`${what} is served in this thread, by an engine that tells of its failures`, async () => {
    const storage = await openIt();
    assert.equal(storage.facts.byteLength, byteLength);
    assert.equal(storage.isLocal, true);
    const engines = storage.openEngines(setup());
    const { recipe, form } = engines;
    assert.ok(recipe.place === "this-thread");
    assert.ok(form.fd < -1, "no descriptor, and not none");
    assert.ok(form.keepsAccount && form.marksDiscards && engines.tellsFailures);
    const place = { memory: memory.wasm, memoryHostAddress: memory.hostAddress, workerPtr: workerPtrOf(0) };
    const engine = recipe.open(place);
    assert.equal(engine.name, "disk");
    engine.close();
    engines.close();
    await storage.close();
  });
}

test("an object that can't be what it says is refused, and left open", () => {
  let isClosed = false;
  const object: BlockDisk = {
    byteLength: 1000n,
    read: async () => {},
    close: async () => {
      isClosed = true;
    },
  };
  assert.throws(() => new ObjectStorage(object, { name: "mine" }), {
    name: "StartError",
    message: /^mine has 1000 bytes; /,
  });
  assert.equal(isClosed, false);
});
