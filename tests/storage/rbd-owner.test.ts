// What is remembered of who has an RBD image's lock: only a process that is certainly gone may lose it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { OwnerRecord } from "../../host/storage/rbd/owner-record.ts";

const state = mkdtempSync(join(tmpdir(), "vringd-owner-"));
after(() => rmSync(state, { recursive: true }));
process.env.STATE_DIRECTORY = state;

const ADDRESS = "192.0.2.1:0/123";
const directory = join(state, "rbd-owners");
const record = new OwnerRecord(["rbd", "an image"]);
beforeEach(() => assert.ok(record.write(ADDRESS)));

/** The record as another process would have written it. */
function change(fields: object): void {
  const [name] = readdirSync(directory);
  const path = join(directory, name!);
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...fields }));
}

test("a process that has written it lives", () => {
  assert.deepEqual(record.stateOf(ADDRESS), { state: "lives", pid: process.pid });
});

test("one whose pid nobody has is gone", () => {
  const { pid } = spawnSync("true");
  change({ pid });
  assert.deepEqual(record.stateOf(ADDRESS), { state: "gone" });
});

test("one whose pid somebody else has by now is gone", () => {
  change({ startTime: "1" });
  assert.deepEqual(record.stateOf(ADDRESS), { state: "gone" });
});

test("of another client, another host or namespace, and another image nothing is known", () => {
  assert.deepEqual(record.stateOf("192.0.2.1:0/124"), { state: "unknown" });
  assert.deepEqual(new OwnerRecord(["rbd", "another"]).stateOf(ADDRESS), { state: "unknown" });
  change({ pid: 1, place: "elsewhere" });
  assert.deepEqual(record.stateOf(ADDRESS), { state: "unknown" });
});

test("nothing follows from a record that was cut off, or is none", () => {
  const [name] = readdirSync(directory);
  for (const text of ["", "{", "null", '{"address":"192.0.2.1:0/123"}']) {
    writeFileSync(join(directory, name!), text);
    assert.deepEqual(record.stateOf(ADDRESS), { state: "unknown" });
  }
});

test("it goes when the lock does, but not that of whoever has it by then", () => {
  record.remove("192.0.2.1:0/124");
  assert.deepEqual(record.stateOf(ADDRESS), { state: "lives", pid: process.pid });
  record.remove(ADDRESS);
  assert.deepEqual(record.stateOf(ADDRESS), { state: "unknown" });
  record.remove(ADDRESS);
});
