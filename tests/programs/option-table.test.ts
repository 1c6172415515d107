// What manual pages and shells learn of a command line.
import assert from "node:assert/strict";
import { test } from "node:test";
import { tableOf, withSubcommands } from "../../host/command-line/option-table.ts";
import { newProgram, oneOf, wholeNumber } from "../../host/command-line/program.ts";

function example() {
  const program = newProgram("tool").description("Does things.").helpCommand(false);
  program
    .command("make")
    .summary("make a thing")
    .argument("[FILE...]", "things")
    .optionsGroup("How:")
    .option("-c, --colour <NAME>", "its colour", oneOf(["red", "blue"], "--colour"), "red")
    .option("--size <BYTES>", "its size", oneOf([512, 4096], "--size"))
    .option("--count <N>", "how many", wholeNumber(1, 9, "--count"), 1)
    .option("--from <PATH>", "a file")
    .option("--in <DIR>", "a directory")
    .option("--directory <PATH>", "a directory, too")
    .option("--name <TEXT>", "anything")
    .option("--quick", "at once")
    .addHelpText("after", "\nExit status: 0.");
  return tableOf(program);
}

const [, make] = withSubcommands(example());
const option = (name: string) => make!.options.find(({ long }) => long === name)!;

test("a command has its path, its usage, and what its help ends with", () => {
  const { path, name, summary, usage, epilogue } = make!;
  assert.deepEqual(
    { path, name, summary, usage, epilogue },
    {
      path: "tool make",
      name: "make",
      summary: "make a thing",
      usage: "tool make [options] [FILE...]",
      epilogue: "Exit status: 0.",
    },
  );
});

test("what a reader accepts is known, with its range and its choices", () => {
  assert.deepEqual(option("--colour").value, {
    name: "NAME",
    choices: ["red", "blue"],
    completes: undefined,
  });
  assert.deepEqual(option("--size").value?.choices, ["512", "4096"]);
  assert.equal(option("--count").description, "how many (default: 1); from 1 to 9");
  assert.equal(option("--count").summary, "how many");
});

test("names of values tell what is in the file system", () => {
  const kinds = ["--from", "--in", "--directory", "--name"].map((name) => option(name).value?.completes);
  assert.deepEqual(kinds, ["file", "directory", "directory", undefined]);
  const [argument] = make!.arguments;
  assert.deepEqual([argument!.value.completes, argument!.isVariadic], ["file", true]);
});

test("a switch has no value, and an option its group and its short form", () => {
  assert.equal(option("--quick").value, undefined);
  assert.equal(option("--colour").short, "-c");
  assert.equal(option("--colour").group, "How");
});

test("help is an option like any other", () => {
  assert.equal(option("--help").short, "-h");
});

test("a number that is one of a few is read as one, and refused otherwise", () => {
  const read = oneOf([512, 4096], "--size");
  assert.equal(read("512"), 512);
  assert.throws(() => read("513"), /--size takes one of 512, 4096, not "513"/);
});
