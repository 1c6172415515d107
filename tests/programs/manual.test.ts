// The manual pages that the build makes: complete, and sound to those who read them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { tableOf, withSubcommands } from "../../host/command-line/option-table.ts";
import { allPrograms } from "../../host/devices/index.ts";
import { parseProse } from "../../host/packaging/manual/prose.ts";
import { block } from "../../host/packaging/manual/roff.ts";
import { commandLineOf } from "../../host/programs/command-line.ts";
import { commandLine as toolboxCommandLine } from "../../host/toolbox/cli.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { PROGRAM } from "../support/vringd.ts";

const MAN = join(dirname(PROGRAM), "man");
const WIDTH = 80;

const toolbox = tableOf(toolboxCommandLine());
const daemons = (await allPrograms()).map((program) => tableOf(commandLineOf(program)));

const source = (name: string) => readFileSync(join(MAN, `${name}.1`), "latin1");

/** Without marks, as one would search for it. */
const plain = (name: string) => source(name).replace(/\\f./g, "").replaceAll("\\-", "-");

test("each program and each subcommand of the toolbox has a page", () => {
  const subcommands = toolbox.subcommands.map(({ name }) => `vringd-${name}`);
  // One that is called as a program is on the program's.
  const wanted = new Set(["vringd", ...daemons.map(({ name }) => name), ...subcommands]);
  assert.deepEqual(readdirSync(MAN).sort(), [...wanted].map((name) => `${name}.1`).sort());
});

test("every option is explained, on the page of its command", () => {
  const pages = [...daemons, ...toolbox.subcommands].map(
    (command) => [command.path.replace(" ", "-"), command] as const,
  );
  for (const [name, command] of pages) {
    const text = plain(name);
    for (const { long, value } of withSubcommands(command).flatMap(({ options }) => options))
      assert.ok(text.includes(`${long}${value ? `=${value.name}` : ""}\n`), `${name}: ${long}`);
  }
});

test("a page has its sections in the usual order", () => {
  const titles = [...source("vringd-blk").matchAll(/^\.SH "(.*)"$/gm)].map(([, title]) => title);
  const usual = "NAME,SYNOPSIS,DESCRIPTION,OPTIONS,EXIT STATUS,ENVIRONMENT,FILES,EXAMPLES,SEE ALSO".split(
    ",",
  );
  assert.deepEqual(
    titles.filter((title) => usual.includes(title!)),
    usual,
  );
});

test("what roff would take for a request, or for a mark, is text", () => {
  const [code] = parseProse("# S\n\n```\n.SH x\n'tis a \\fB ~ ^ `\n```\n").get("S")!;
  const [, , , first, second] = block(code!).split("\n");
  assert.equal(first, "\\&.SH x");
  assert.equal(second, "\\(aqtis a \\efB \\(ti \\(ha \\(ga");
});

test("prose is paragraphs, literal blocks and terms", () => {
  const prose = parseProse("# A\n\none\ntwo\n\n`x`\n: is\n  it\n\n# B\n\n```\na\n\nb\n```\n");
  assert.deepEqual(
    [...prose],
    [
      [
        "A",
        [
          { type: "paragraph", text: "one two" },
          { type: "term", term: "`x`", text: "is   it" },
        ],
      ],
      ["B", [{ type: "literal", lines: ["a", "", "b"] }]],
    ],
  );
});

describe("man", { skip: skipWithout(whyNoProgram("man")) }, () => {
  for (const file of readdirSync(MAN)) {
    test(`formats ${file} without a warning, in ${WIDTH} columns`, () => {
      const { status, stdout, stderr } = spawnSync("man", ["--warnings", "-l", join(MAN, file)], {
        encoding: "utf8",
        env: { PATH: process.env.PATH, MANWIDTH: String(WIDTH), MANPAGER: "cat", LC_ALL: "C.UTF-8" },
      });
      assert.deepEqual([status, stderr], [0, ""]);
      assert.match(stdout, /^NAME\n/m);
      assert.deepEqual(
        stdout.split("\n").filter((line) => [...line].length > WIDTH),
        [],
      );
    });
  }
});

test("mandoc has nothing to complain of", { skip: skipWithout(whyNoProgram("mandoc")) }, () => {
  for (const file of readdirSync(MAN)) {
    const { stdout } = spawnSync("mandoc", ["-Tlint", "-Wwarning", join(MAN, file)], { encoding: "utf8" });
    // We give no date: a page depends on its source alone.
    const lines = stdout.split("\n").filter((line) => line !== "" && !line.includes("missing date"));
    assert.deepEqual(lines, []);
  }
});
