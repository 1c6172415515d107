// What `vringd completion` prints, in the shells themselves.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { listenUnix } from "../../host/linux/unix-socket.ts";
import { ShellSession } from "../support/shell-session.ts";
import { type Lack, skipWithout, whyNoProgram } from "../support/skip.ts";
import { PROGRAM } from "../support/vringd.ts";

const TOOLBOX = join(dirname(PROGRAM), "vringd.mjs");
const BASH_COMPLETION = "/usr/share/bash-completion/bash_completion";

const directory = mkdtempSync(join(tmpdir(), "completion-"));
after(() => rmSync(directory, { recursive: true }));
writeFileSync(join(directory, "my disk.img"), "");
writeFileSync(join(directory, "other.img"), "");
mkdirSync(join(directory, "places"));

for (const shell of ["bash", "zsh", "fish"]) {
  const script = execFileSync(process.execPath, [TOOLBOX, "completion", shell]);
  writeFileSync(join(directory, `script.${shell}`), script);
}

/** Two that listen at names without files; the second has a name that a shell would run if it were careless. */
const SOCKET = `@vringd-${process.pid}.sock`;
const TRAP = `@trap-${process.pid}$(touch$IFS"trapped")`;
const listeners = [SOCKET, TRAP].map((name) => listenUnix(name));
after(() => listeners.forEach(closeSync));

/** A group of the machine that no other's name begins with. */
const GROUP = "nogroup";

/** It gives a terminal. */
const noTerminal = whyNoProgram("script");

/** Typed, and what becomes of it with a Tab. */
const COMPLETED: [typed: string, line: string][] = [
  ["vringd-blk --eng", "vringd-blk --engine="],
  ["vringd-blk --engine=thr", "vringd-blk --engine=threads "],
  ["vringd-blk --engine thr", "vringd-blk --engine threads "],
  ["vringd-blk --blk-file=oth", "vringd-blk --blk-file=other.img "],
  ["vringd-blk --blk-file oth", "vringd-blk --blk-file other.img "],
  ["vringd-blk --blk-file=my", "vringd-blk --blk-file=my\\ disk.img "],
  ["vringd-blk --read", "vringd-blk --read-only "],
  ["vringd-blk --fd=3 --block-size=2", "vringd-blk --fd=3 --block-size=2048 "],
  ["/usr/bin/vringd-blk --discard=i", "/usr/bin/vringd-blk --discard=ignore "],
  ["vringd ba", "vringd backends "],
  ["vringd backends uni", "vringd backends uninstall "],
  ["vringd backends list --type=cryp", "vringd backends list --type=crypto "],
  ["vringd backends list --type block --exp", "vringd backends list --type block --explain "],
  ["vringd backends check oth", "vringd backends check other.img "],
  ["vringd backends install --directory pl", "vringd backends install --directory places/"],
  ["vringd completion f", "vringd completion fish "],
  ["vringd-blk --socket-group=nogr", `vringd-blk --socket-group=${GROUP} `],
  ["vringd-blk --metrics-group nogr", `vringd-blk --metrics-group ${GROUP} `],
  [`vringd probe ${SOCKET.slice(0, -3)}`, `vringd probe ${SOCKET} `],
  ["vringd probe oth", "vringd probe other.img "],
  [`vringd-blk --connect ${SOCKET.slice(0, -3)}`, `vringd-blk --connect ${SOCKET} `],
  [`vringd-blk --connect=${SOCKET.slice(0, -3)}`, `vringd-blk --connect=${SOCKET} `],
];

/** Nothing may be offered. */
const SILENT = [
  "vringd-blk --serial=o",
  "vringd-blk --no-such",
  "vringd-blk --engine=x",
  "vringd backends uninstall --directory=oth",
  "vringd completion --engine",
  "vringd-blk --socket-group=no-such",
  `vringd probe @trap-${process.pid}`,
];

after(() => assert.ok(!existsSync(join(directory, "trapped")), "a name was run"));

function completesLines(start: () => Promise<ShellSession>, ...lacks: Lack[]): void {
  const options = { skip: skipWithout(...lacks), timeout: 240_000 };
  test("completes options, values, paths and subcommands", options, async () => {
    await using session = await start();
    for (const [typed, line] of COMPLETED) assert.equal((await session.type(`${typed}\t`)).line, line);
  });
  test("offers nothing where nothing fits", options, async () => {
    await using session = await start();
    for (const typed of SILENT) assert.equal((await session.type(`${typed}\t`)).line, typed);
  });
  test("offers all choices", options, async () => {
    await using session = await start();
    const { printed } = await session.type("vringd-blk --engine=\t\t");
    for (const choice of ["auto", "io_uring", "threads"])
      assert.match(printed, new RegExp(`\\b${choice}\\b`));
    const { printed: commands } = await session.type("vringd backends \t\t");
    for (const command of ["list", "show", "check", "install", "uninstall"])
      assert.match(commands, new RegExp(`\\b${command}\\b`));
  });
}

function bash(...before: string[]): Promise<ShellSession> {
  const showLine = `bind -x '"\\C-t": printf "\\n<%s>\\n" "<$READLINE_LINE>"'`;
  const setUp = ["bind 'set enable-bracketed-paste off'", ...before, "source ./script.bash", showLine];
  return ShellSession.start("bash --norc --noprofile -i", directory, setUp);
}

describe("completion in bash", () => completesLines(() => bash(), noTerminal));

describe("completion in bash where = divides no words", () =>
  completesLines(() => bash('COMP_WORDBREAKS=$(tr -d = <<<"$COMP_WORDBREAKS")'), noTerminal));

describe("completion in bash with bash-completion", () =>
  completesLines(
    () => bash(`source ${BASH_COMPLETION}`),
    noTerminal,
    !existsSync(BASH_COMPLETION) && "bash-completion is not installed",
  ));

const noZsh = whyNoProgram("script", "zsh");

function zsh(...load: string[]): Promise<ShellSession> {
  const showLine = `show() { print; print -r -- "<<$BUFFER>>" }; zle -N show; bindkey '^T' show`;
  return ShellSession.start("zsh -f -i", directory, ["PROMPT=", "unsetopt automenu", ...load, showLine]);
}

describe("completion in zsh, read by source", () =>
  completesLines(() => zsh("autoload -U compinit && compinit -u -D", "source ./script.zsh"), noZsh));

describe("completion in zsh, found in $fpath", () => {
  before(() => {
    mkdirSync(join(directory, "functions"));
    writeFileSync(
      join(directory, "functions/_vringd"),
      execFileSync(process.execPath, [TOOLBOX, "completion", "zsh"]),
    );
  });
  completesLines(() => zsh("fpath=($PWD/functions $fpath)", "autoload -U compinit && compinit -u -D"), noZsh);
});

describe("completion in fish", { skip: skipWithout(whyNoProgram("fish")) }, () => {
  /** Words that are offered for the last one. */
  function offered(typed: string): string[] {
    const script = 'source ./script.fish; complete -C "$argv[1]"';
    const { stdout, stderr } = spawnSync("fish", ["--no-config", "-c", script, typed], {
      cwd: directory,
      encoding: "utf8",
    });
    assert.equal(stderr, "");
    const lines = stdout.split("\n").filter((line) => line !== "");
    return lines.map((line) => line.split("\t")[0]!);
  }

  for (const [typed, line] of COMPLETED) {
    test(`completes ${typed}`, () => {
      // The word alone; fish adds "=" and quotes as it inserts it.
      const word = line.slice(typed.search(/\S+$/)).trim().replace("\\ ", " ");
      const expected = [word.replace(/=$/, "")];
      assert.deepEqual(offered(typed), expected);
    });
  }

  for (const typed of SILENT) {
    test(`offers nothing for ${typed}`, () => assert.deepEqual(offered(typed), []));
  }

  test("offers all choices", () => {
    assert.deepEqual(offered("vringd-blk --engine "), ["auto", "io_uring", "threads"]);
    assert.deepEqual(offered("vringd backends "), ["check", "install", "list", "show", "uninstall"]);
  });
});
