// What would help against a failed start is said by the names that whoever reads it knows.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { optionFor } from "../../host/command-line/option-name.ts";
import { StartError } from "../../host/errors.ts";
import { FileDisk, MemoryDisk, serve } from "../../host/library/index.ts";
import { listenUnix } from "../../host/linux/unix-socket.ts";
import { choice } from "../../host/process/choices.ts";

const error = new StartError(
  `/a=b is used; ${choice("readOnly")} may serve it, or ${choice("format", "raw")} after ${choice("lockTimeoutMs")}`,
);

test("the library says it by its properties", () => {
  assert.equal(error.message, "/a=b is used; readOnly may serve it, or format: raw after lockTimeoutMs");
});

test("a program says it by its options", () => {
  assert.equal(
    error.told(optionFor),
    "/a=b is used; --read-only may serve it, or --format=raw after --lock-timeout",
  );
});

test("the value may have an equals sign", () => {
  const uri = "'nbd+unix:///?socket=/run/disk.nbd'";
  assert.equal(new StartError(choice("path", uri)).told(optionFor), `--blk-file=${uri}`);
});

test("has the code of what the kernel said, and the error", async () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const path = join(directory, "taken.sock");
  const fd = listenUnix(path);
  try {
    const failure = (attempt: Promise<unknown>) =>
      attempt.then(
        () => assert.fail("it has started"),
        (error: StartError) => error,
      );
    const missing = await failure(FileDisk.open({ path: join(directory, "none.img") }));
    assert.deepEqual([missing.name, missing.code], ["StartError", "ENOENT"]);
    assert.match((missing.cause as Error).message, /^ENOENT: /);
    const taken = await failure(serve({ disk: new MemoryDisk(1n << 20n), socketPath: path }));
    assert.deepEqual([taken.name, taken.code], ["StartError", "EADDRINUSE"]);
    const wrong = await failure(serve({ disk: new MemoryDisk(1n << 20n) }));
    assert.deepEqual([wrong.name, wrong.code, wrong.cause], ["StartError", undefined, undefined]);
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
});
