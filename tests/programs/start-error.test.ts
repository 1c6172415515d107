// What would help against a failed start is said by the names that whoever reads it knows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { optionFor } from "../../host/command-line/option-name.ts";
import { StartError } from "../../host/errors.ts";
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
