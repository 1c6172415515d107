// What another host wrote while it had a disk is seen by whoever takes the disk back.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, fsyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { SILENT } from "../../host/process/log.ts";
import { openStorage } from "../../host/storage/open.ts";
import { diskDirectory } from "../support/vringd.ts";

const BYTES = 1 << 20;

/** Bytes of the file that this host's page cache holds. */
const cached = (path: string): number =>
  Number(execFileSync("fincore", ["--bytes", "--noheadings", "--output=RES", path], { encoding: "utf8" }));

function writeWhole(path: string): void {
  writeFileSync(path, Buffer.alloc(BYTES, 1));
  const fd = openSync(path, "r+");
  fsyncSync(fd);
  closeSync(fd);
}

for (const [name, choice] of [
  ["the daemon that has given it away", {}],
  ["a daemon to which a guest moves", { incoming: true }],
  ["a standby", { succeeds: true }],
] as const) {
  test(`nothing that was read before is served after ${name} has taken the disk`, async () => {
    const directory = mkdtempSync(join(diskDirectory(), "vringd-test-"));
    const path = join(directory, "disk.img");
    writeWhole(path);
    const storage = await openStorage(
      {
        path,
        readOnly: false,
        direct: false,
        discard: "ignore",
        lock: "auto",
        lockTimeoutMs: 0,
        rangeSegments: 1,
        ...choice,
      },
      new AbortController().signal,
      SILENT,
    );
    try {
      const handover = storage.handover!;
      if (handover.isOurs) await handover.letGo();
      readFileSync(path);
      assert.equal(cached(path), BYTES);
      assert.equal(await handover.tryTake(), true);
      assert.equal(cached(path), 0);
    } finally {
      await storage.close();
      rmSync(directory, { recursive: true });
    }
  });
}
