// A table of options: one declaration for command line, library and messages.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryDisk, serve } from "vringd";
import { addOptions, valuesOf } from "../../host/command-line/from-options.ts";
import { newProgram } from "../../host/command-line/program.ts";
import { checkValue, flagOf, inGroup, option, toggle, UsageError } from "../../host/options/option.ts";
import { asciiText, fileMode, groupName, oneOf, path, wholeNumber } from "../../host/options/types.ts";

const TABLE = {
  ...inGroup("The thing", {
    thingFile: option({ type: path, value: "PATH", help: "the thing", required: "what to serve" }),
    size: option({ type: oneOf([512, 4096]), value: "BYTES", help: "its size", default: 512 }),
  }),
  ...inGroup("How", {
    count: option({ type: wholeNumber(1, 9), value: "N", help: "how many" }),
    isQuick: toggle("at once"),
  }),
};

function read(...args: string[]) {
  const command = newProgram("tool");
  addOptions(command, TABLE);
  return valuesOf(TABLE, command.parse(args, { from: "user" }).opts());
}

test("names are flags as the command line spells them", () => {
  assert.equal(flagOf("pollUs"), "--poll-us");
  assert.equal(flagOf("fd"), "--fd");
});

test("values have their types, and what is left out its default", () => {
  assert.deepEqual(read("--thing-file=a"), { thingFile: "a", size: 512, count: undefined, isQuick: false });
  const all = read("--thing-file=a", "--size=4096", "--count", "9", "--is-quick");
  assert.deepEqual(all, { thingFile: "a", size: 4096, count: 9, isQuick: true });
});

for (const [args, sentence] of [
  [[], /^--thing-file is missing: what to serve$/],
  [["--thing-file="], /^--thing-file: a path is empty$/],
  [["--thing-file=a", "--size=513"], /^--size takes one of 512, 4096, not "513"$/],
  [["--thing-file=a", "--count=10"], /^--count takes a whole number from 1 to 9, not "10"$/],
  [["--thing-file=a", "--count=1e0"], /^--count takes a whole number/],
  [["--thing-file=a", "--count=1", "--count=2"], /^--count is given twice, and takes one value$/],
] as const) {
  test(`one sentence for ${args.join(" ") || "nothing"}`, () => {
    assert.throws(
      () => read(...args),
      (error: Error) => error instanceof UsageError && sentence.test(error.message),
    );
  });
}

test("what a program gives is checked by the same types", () => {
  checkValue(TABLE.count, 9, "count");
  checkValue(TABLE.isQuick, true, "isQuick");
  for (const value of [0, 10, 1.5, "1", Number.NaN, null]) {
    const sentence = { name: "StartError", message: `count is ${value}; give a whole number from 1 to 9` };
    assert.throws(() => checkValue(TABLE.count, value, "count"), sentence);
  }
  assert.throws(() => checkValue(TABLE.isQuick, "yes", "isQuick"), /isQuick is yes; give true or false/);
});

test("types take what they say, in text and as values", () => {
  assert.equal(fileMode.read("0660"), 0o660);
  assert.equal(fileMode.read("66"), undefined);
  assert.ok(fileMode.accepts(0o777) && !fileMode.accepts(0o1000));
  assert.equal(groupName.read("4294967295"), undefined, "(gid_t)-1 means none");
  assert.equal(groupName.read("kvm"), "kvm");
  assert.equal(asciiText(3).read("abcd"), undefined);
  assert.equal(asciiText(3).read("\t"), undefined);
  assert.equal(asciiText(3).read(""), "");
});

test("the library refuses what the command line would", async () => {
  const disk = new MemoryDisk(4096);
  for (const [options, sentence] of [
    [{ queues: 257 }, /^queues is 257; give a whole number from 1 to 256$/],
    [{ queueSize: 3 }, /^queueSize is 3; give a whole number from 4 to 1024$/],
    [{ engine: "aio" as never }, /^engine is aio; give one of auto, io_uring, threads$/],
    [{ socketMode: 0o1000 }, /^socketMode is 512; give an octal mode such as 660$/],
  ] as const) {
    await assert.rejects(serve({ disk, socketPath: "/nonexistent/blk.sock", ...options }), {
      name: "StartError",
      message: sentence,
    });
  }
});
