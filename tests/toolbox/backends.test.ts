// `vringd backends` as a program: what it prints and with which status it ends.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import manifest from "../../package.json" with { type: "json" };
import template from "../../schema/50-vringd-blk.json" with { type: "json" };
import { BackendFiles } from "../support/backend-files.ts";
import { Random } from "../support/random.ts";
import { until } from "../support/until.ts";
import { PROGRAM } from "../support/vringd.ts";

const files = new BackendFiles();
after(() => files[Symbol.dispose]());

/** A copy without node_modules beside it: what is not in the bundles, such as koffi, can't be loaded. */
const build = files.path("package/build");
mkdirSync(build, { recursive: true });
for (const name of readdirSync(dirname(PROGRAM))) {
  if (name.endsWith(".mjs")) cpSync(join(dirname(PROGRAM), name), join(build, name));
}
const TOOLBOX = join(build, "vringd.mjs");
const BLK = join(build, "vringd-blk.mjs");

const FAILED = 1;
const USAGE = 2;

const home = files.path("home");
const ours = join(home, "qemu/vhost-user/50-vringd-blk.json");
const environment = {
  PATH: process.env.PATH,
  HOME: files.path("nobody"),
  XDG_CONFIG_HOME: home,
  XDG_DATA_DIRS: files.path("usr"),
};

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return start(TOOLBOX, args);
}

function start(program: string, args: string[]): ReturnType<typeof run> {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, "backends", ...args], {
    cwd: files.root,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
  });
  return { status, stdout: String(stdout), stderr: String(stderr) };
}

/** Options that search these directories of ours, where a slow machine is no failure. */
function inside(...directories: string[]): string[] {
  return ["--timeout=60", ...directories.map((name) => `--directory=${files.path(name)}`)];
}

function assertRefused(result: ReturnType<typeof run>, sentence: RegExp, status = FAILED): void {
  assert.match(result.stderr, /^vringd: [^\n]*\n$/);
  assert.match(result.stderr, sentence);
  assert.equal(result.stdout, "");
  assert.equal(result.status, status);
}

files.backend("two/10-gpu.json", "gpu", ["render-node", "virgl"]);
files.backend("two/20-gpu.json", "gpu", []);
files.backend("two/30-input.json", "input", ["no-grab"]);
files.write("broken/40-local.json", '{\n  "type": "block"\n  "binary": "/x"\n}');
files.backend("broken/50-fs.json", "fs");

test("list shows those that fit, in order, and the first of each type with a star", () => {
  const { status, stdout, stderr } = run("list", ...inside("two"));
  const [titles, ...rows] = stdout.trimEnd().split("\n");
  assert.match(titles!, /^ {3}FILE {2,}TYPE {2,}FEATURES {2,}BINARY {2,}DESCRIPTION$/);
  const binary = (name: string) => files.path("bin", name);
  assert.deepEqual(
    rows.map((row) => row.split(/ {2,}/)),
    [
      [
        "*",
        "10-gpu.json",
        "gpu",
        "render-node,virgl",
        binary("two-10-gpu.json"),
        "the gpu of two/10-gpu.json",
      ],
      ["", "20-gpu.json", "gpu", "-", binary("two-20-gpu.json"), "the gpu of two/20-gpu.json"],
      [
        "*",
        "30-input.json",
        "input",
        "no-grab",
        binary("two-30-input.json"),
        "the input of two/30-input.json",
      ],
    ],
  );
  assert.equal(stderr, "");
  assert.equal(status, 0);
});

test("list reports what is broken, and goes on", () => {
  const { status, stdout, stderr } = run("list", ...inside("broken"));
  assert.match(stdout, /50-fs\.json/);
  const path = files.path("broken/40-local.json");
  assert.equal(stderr, `vringd: ${path}: it is not JSON from line 3, column 3 on: "binary": "/x"\n`);
  assert.equal(status, 0);
});

test("list says when nothing fits, with status 1", () => {
  const result = run("list", ...inside("two"), "--type=block", "--features=read-only,blk-file");
  assertRefused(result, /no back-end of type block with read-only and blk-file was found/);
});

test("list --explain tells of every file why it was taken or not", () => {
  files.write("over/10-gpu.json", "");
  const { status, stdout } = run("list", "--explain", "--type=gpu", ...inside("two", "over", "none"));
  const path = (name: string) => files.path(name);
  assert.equal(
    stdout,
    [
      "Searched, from general to specific:",
      `  ${path("two")}: 3 files`,
      `  ${path("over")}: 1 file`,
      `  ${path("none")}: no such directory`,
      "",
      "Wanted: type gpu. Files, in the order in which they are tried:",
      "",
      `hidden      ${path("two/10-gpu.json")}`,
      `            ${path("over/10-gpu.json")} has no content and hides it`,
      `hides       ${path("over/10-gpu.json")}`,
      `            it has no content, and so hides ${path("two/10-gpu.json")}`,
      `taken       ${path("two/20-gpu.json")}`,
      "            it is the first gpu back-end that fits",
      `unfit       ${path("two/30-input.json")}`,
      "            its type is input, not gpu",
      "",
    ].join("\n"),
  );
  assert.equal(status, 0);
});

test("list --json has the directories, and every file with its verdict", () => {
  const { status, stdout } = run("list", "--json", "--type=gpu", ...inside("two"));
  const { directories, findings } = JSON.parse(stdout);
  assert.deepEqual(directories, [
    { path: files.path("two"), names: ["10-gpu.json", "20-gpu.json", "30-input.json"] },
  ]);
  assert.deepEqual(
    findings.map(({ verdict }: { verdict: string }) => verdict),
    ["taken", "fits", "unfit"],
  );
  const binary = files.path("bin/two-10-gpu.json");
  assert.deepEqual(findings[0], {
    name: "10-gpu.json",
    path: files.path("two/10-gpu.json"),
    verdict: "taken",
    reason: "it is the first gpu back-end that fits",
    description: { description: "the gpu of two/10-gpu.json", type: "gpu", binary },
    capabilities: { type: "gpu", features: ["render-node", "virgl"] },
    warnings: [],
  });
  assert.equal(status, 0);
});

test("without --directory, the directories of XDG's variables and /etc are searched", () => {
  const { directories } = JSON.parse(run("list", "--json").stdout);
  assert.deepEqual(
    directories.map(({ path }: { path: string }) => path),
    [files.path("usr/qemu/vhost-user"), "/etc/qemu/vhost-user", dirname(ours)],
  );
});

test("a program that hangs is given --timeout, and then the list goes on", () => {
  files.describe("hanging/10-a.json", "fs", files.script("hang", "sleep 1000"));
  const { stderr } = run("list", "--timeout=1", `--directory=${files.path("hanging")}`);
  assert.match(stderr, /hang --print-capabilities: it gave no answer within 1000 ms/);
});

test("when the toolbox is ended by a signal, so is what runs for it", async () => {
  const pid = files.path("asked");
  files.describe(
    "endless/10-a.json",
    "fs",
    files.script("endless", `echo $$ > ${pid}.new && mv ${pid}.new ${pid}; sleep 1000`),
  );
  const child = spawn(process.execPath, [TOOLBOX, "backends", "list", ...inside("endless")], {
    env: environment,
    stdio: "ignore",
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await until(() => existsSync(pid), "the program has started", 20_000);
  child.kill("SIGINT");
  assert.equal(await ended, 130);
  const asked = Number(readFileSync(pid, "utf8"));
  await until(
    () => !existsSync(`/proc/${asked}`) || /^State:\s*Z/m.test(readFileSync(`/proc/${asked}/status`, "utf8")),
    "it is gone",
  );
});

test("a reader that has seen enough is no failure", () => {
  const command = `"$0" "$1" backends list ${inside("two").join(" ")} | true; echo "\${PIPESTATUS[0]}"`;
  const { stdout, stderr } = spawnSync("bash", ["-c", command, process.execPath, TOOLBOX], {
    env: environment,
  });
  assert.equal(String(stderr), "");
  assert.equal(String(stdout), "0\n");
});

test("others' text can't command the terminal", () => {
  const { binary } = JSON.parse(readFileSync(files.path("two/30-input.json"), "utf8"));
  const description = "red \u001b[31m\u009b2J\u202etxt\nnew line";
  files.write("escape/10-a.json", JSON.stringify({ description, type: "input", binary }));
  files.write("escape/20-\u001b[2J.json", "{");
  const { stdout, stderr } = run("list", ...inside("escape"));
  assert.match(stdout, /red \\u\{1b\}\[31m\\u\{9b\}2J\\u\{202e\}txt\\u\{a\}new line\n$/);
  assert.match(stderr, /20-\\u\{1b\}\[2J\.json: it is not JSON/);
  assert.match(run("show", "10-a", ...inside("escape")).stdout, /txt\\u\{a\}new line\n/);
});

test("show has the file, what it says, and what its program can do", () => {
  const { status, stdout } = run("show", "20-gpu", ...inside("two"));
  assert.equal(
    stdout,
    [
      `file         ${files.path("two/20-gpu.json")}`,
      "description  the gpu of two/20-gpu.json",
      "type         gpu",
      `binary       ${files.path("bin/two-20-gpu.json")}`,
      "features     none",
      "",
    ].join("\n"),
  );
  assert.equal(status, 0);
});

test("show --type has the one that is taken", () => {
  const { stdout } = run("show", "--json", "--type=gpu", "--features=virgl", ...inside("two"));
  assert.equal(JSON.parse(stdout).name, "10-gpu.json");
});

test("show has the file that takes effect, and why it is of no use", () => {
  const hiding = run("show", "10-gpu", ...inside("two", "over"));
  assert.match(hiding.stdout, /\nhides {8}it has no content/);
  assert.equal(hiding.status, FAILED);
  const broken = run("show", "40-local", ...inside("broken"));
  assert.match(broken.stdout, /\nbroken {7}it is not JSON/);
  assert.equal(broken.status, FAILED);
  const unfit = run("show", "30-input", "--type=gpu", ...inside("two"));
  assert.match(unfit.stdout, /\nunfit {8}its type is input, not gpu/);
  assert.equal(unfit.status, FAILED);
});

test("show says when there is nothing to show", () => {
  assertRefused(run("show", "99-x", ...inside("two")), /no 99-x was found/);
  assertRefused(run("show", "--type=fs", ...inside("two")), /no back-end of type fs was found/);
});

test("check says of each file what is wrong with it, and where", () => {
  const good = files.path("two/10-gpu.json");
  const typo = files.write(
    "check/50-typo.json",
    '{"description": 1, "type": "blk", "binary": "x", "tag": []}',
  );
  const { status, stdout, stderr } = run("check", good, typo);
  const lines = stdout.split("\n");
  assert.equal(lines[0], `${good}: ok`);
  assert.equal(lines[1], `${typo}: error: "description" must be a string, not a number`);
  assert.match(lines[2]!, /: error: "type" must be one of 9p, .*, fs; it is "blk"$/);
  assert.equal(lines[3], `${typo}: error: "binary" must be an absolute path; it is "x"`);
  assert.equal(lines[4], `${typo}: warning: the schema has no member "tag"; see whether it is spelt right`);
  assert.equal(lines.length, 6);
  assert.equal(stderr, "");
  assert.equal(status, FAILED);
});

test("check takes all files of a directory, and passes over what a search passes over", () => {
  files.write("mixed/.draft", "{");
  files.write("mixed/10-hides.json", "");
  mkdirSync(files.path("mixed/20-directory.json"));
  files.backend("mixed/30-fs.json", "fs");
  const { status, stdout } = run("check", files.path("mixed"));
  assert.equal(stdout, `${files.path("mixed/10-hides.json")}: ok\n${files.path("mixed/30-fs.json")}: ok\n`);
  assert.equal(status, 0);
});

test("check warns of a name that sorts by chance", () => {
  const path = files.backend("names/gpu.json", "gpu");
  const { status, stdout } = run("check", path);
  assert.match(stdout, /gpu\.json: warning: its name should be like 50-name\.json/);
  assert.equal(status, 0);
});

test("check --binary starts the programs, too; without it they need not be there", () => {
  const path = files.describe("absent/50-a.json", "fs", "/no/such/program");
  assert.equal(run("check", path).status, 0);
  const { status, stdout } = run("check", "--binary", path);
  assert.match(stdout, /error: \/no\/such\/program --print-capabilities: it can't be started: no such file/);
  assert.equal(status, FAILED);
  assert.equal(run("check", "--binary", "--timeout=60", files.path("two")).status, 0);
});

test("check --json has errors and warnings of each file", () => {
  const path = files.write("json/gpu.json", "[]");
  assert.deepEqual(JSON.parse(run("check", "--json", path).stdout), [
    {
      path,
      errors: ["the whole must be an object, not an array"],
      warnings: ["its name should be like 50-name.json, since files are tried in the order of their names"],
    },
  ]);
});

test("check of what is not there is an error, and of no file a failure", () => {
  const missing = run("check", files.path("none.json"));
  assert.match(missing.stdout, /none\.json: error: it can't be read: no such file or directory\n/);
  assert.equal(missing.status, FAILED);
  mkdirSync(files.path("empty"));
  assertRefused(run("check", files.path("empty")), /there is no description file to check/);
});

test("our own description passes its check, program and all", () => {
  const path = join(dirname(ours), "50-vringd-blk.json");
  assert.equal(run("install").status, 0);
  const { status, stdout } = run("check", "--binary", "--timeout=60", path);
  assert.equal(stdout, `${path}: ok\n`);
  assert.equal(status, 0);
});

const random = new Random();

test(`whatever a file has in it, there is a sentence for it (seed ${random.seed})`, () => {
  const valid = readFileSync(files.path("two/10-gpu.json"));
  for (let number = 0; number < 300; number++) {
    const bytes = Buffer.concat([valid, Buffer.alloc(1)]);
    for (let times = random.between(1, 4); times > 0; times--)
      bytes[random.below(bytes.length)] = random.below(256);
    files.write(`corpus/${number}.json`, bytes.subarray(0, random.between(1, bytes.length)));
  }
  const { stdout, stderr } = run("check", files.path("corpus"));
  assert.equal(stderr, "");
  const lines = stdout.trimEnd().split("\n");
  assert.ok(lines.length >= 300);
  for (const line of lines) assert.match(line, /^\/[^\p{C}]*\.json: (error|warning): [^\p{C}]+$/u);
});

test("install writes a description that names this vringd-blk, and is found", () => {
  run("uninstall");
  const { status, stdout } = run("install");
  assert.equal(stdout, `wrote ${ours}\nfor   ${BLK}\n`);
  assert.equal(status, 0);
  assert.deepEqual(JSON.parse(readFileSync(ours, "utf8")), { ...template, binary: BLK });
  const shown = JSON.parse(run("show", "--json", "--type=block", "--timeout=60").stdout);
  assert.equal(shown.path, ours);
  assert.deepEqual(shown.capabilities, { type: "block", features: ["read-only", "blk-file"] });
});

test("install leaves one file, which all may read, whatever the umask", () => {
  const directory = files.path("made/by/install");
  const command = `umask 077; exec "$0" "$1" backends install --directory ${directory}`;
  const { status } = spawnSync("sh", ["-c", command, process.execPath, TOOLBOX], { env: environment });
  assert.equal(status, 0);
  assert.deepEqual(readdirSync(directory), ["50-vringd-blk.json"]);
  assert.equal(statSync(directory).mode & 0o777, 0o755);
  assert.equal(statSync(join(directory, "50-vringd-blk.json")).mode & 0o777, 0o644);
});

test("install names the link beside its own, if it leads to the same package", () => {
  mkdirSync(files.path("local/bin"), { recursive: true });
  for (const name of ["vringd", "vringd-blk"])
    symlinkSync(join(build, `${name}.mjs`), files.path("local/bin", name));
  const directory = files.path("linked");
  assert.equal(start(files.path("local/bin/vringd"), ["install", "--directory", directory]).status, 0);
  const { binary } = JSON.parse(readFileSync(join(directory, "50-vringd-blk.json"), "utf8"));
  assert.equal(binary, files.path("local/bin/vringd-blk"));
});

test("install takes the place of what an earlier one wrote, wherever that was", () => {
  const old = { ...template, binary: "/opt/old/vringd-blk" };
  const path = files.write("old/50-vringd-blk.json", JSON.stringify(old));
  assert.equal(run("install", "--directory", dirname(path)).status, 0);
  assert.equal(JSON.parse(readFileSync(path, "utf8")).binary, BLK);
});

const foreign: [what: string, content: string][] = [
  ["another program's", JSON.stringify({ ...template, binary: "/usr/bin/other" })],
  ["edited", JSON.stringify({ ...template, binary: BLK, description: "our disks" })],
  ["tagged", JSON.stringify({ ...template, binary: BLK, tags: ["mine"] })],
  ["broken", "{"],
  ["hiding", ""],
];

for (const [what, content] of foreign) {
  test(`a file that is ${what} is neither overwritten nor removed, but with --force`, () => {
    const path = files.write("foreign/50-vringd-blk.json", content);
    const place = ["--directory", dirname(path)];
    assertRefused(run("install", ...place), /50-vringd-blk\.json is not ours, or was edited; .* --force/);
    assertRefused(run("uninstall", ...place), /50-vringd-blk\.json is not ours, or was edited/);
    assert.equal(readFileSync(path, "utf8"), content);
    assert.equal(run("install", "--force", ...place).status, 0);
    assert.equal(JSON.parse(readFileSync(path, "utf8")).binary, BLK);
  });
}

test("uninstall removes our file, and nothing else", () => {
  const other = files.backend("home/qemu/vhost-user/60-other.json", "fs");
  run("install");
  const { status, stdout } = run("uninstall");
  assert.equal(stdout, `removed ${ours}\n`);
  assert.equal(status, 0);
  assert.deepEqual(readdirSync(dirname(ours)), ["60-other.json"]);
  assert.ok(existsSync(other));
  assertRefused(run("uninstall"), /there is no .*50-vringd-blk\.json/);
});

test("a place that can't be written to is told in a sentence, and nothing is left", () => {
  files.write("file", "");
  assertRefused(run("install", "--directory", files.path("file/below")), /can't write .*: not a directory/);
  mkdirSync(files.path("taken/50-vringd-blk.json"), { recursive: true });
  const place = ["--directory", files.path("taken")];
  assertRefused(run("install", "--force", ...place), /can't write .*: illegal operation on a directory/);
  assert.deepEqual(readdirSync(files.path("taken")), ["50-vringd-blk.json"]);
});

test("a vringd-blk that does not run is not installed", () => {
  const copy = files.path("lame/build");
  cpSync(build, copy, { recursive: true });
  chmodSync(join(copy, "vringd-blk.mjs"), 0o644);
  const directory = files.path("lame/place");
  const result = start(join(copy, "vringd.mjs"), ["install", "--directory", directory]);
  assertRefused(result, /vringd-blk\.mjs --print-capabilities: it can't be started: permission denied/);
  assert.ok(!existsSync(directory));
});

const wrongUsage: [args: string[], sentence: RegExp][] = [
  [["list", "--type=blk"], /--type takes one of 9p, .*, fs, not "blk"/],
  [["list", "--timeout=0"], /--timeout takes a whole number from 1 to 60, not "0"/],
  [["list", "--timeout=1.5"], /--timeout takes a whole number/],
  [["list", "x"], /too many arguments for 'list' \(see --help\)$/m],
  [["list", "--nope"], /unknown option '--nope'/],
  [["show"], /a NAME or --type is missing/],
  [["nope"], /unknown command 'nope'/],
  [["install", "--user", "--system"], /--user, --system and --directory exclude each other/],
  [["install", "--system", "--directory=x"], /exclude each other/],
];

for (const [args, sentence] of wrongUsage) {
  test(`one sentence and status 2: backends ${args.join(" ")}`, () => {
    assertRefused(run(...args), sentence, USAGE);
  });
}

test("without a subcommand there is help, and status 2", () => {
  const { status, stdout, stderr } = run();
  assert.match(stderr, /^Usage: vringd backends .*vringd: a subcommand is missing \(see --help\)\n$/s);
  assert.equal(stdout, "");
  assert.equal(status, USAGE);
});

for (const name of ["", "list", "show", "check", "install", "uninstall"]) {
  test(`help of "backends ${name}" fits 80 columns${name && ", and explains the exit status"}`, () => {
    const { status, stdout } = run(...(name === "" ? [] : [name]), "--help");
    for (const line of stdout.split("\n")) assert.ok(line.length <= 80, line);
    if (name !== "") assert.match(stdout, /^Exit status: 0 .*, 1 .*, 2 for wrong usage\.$/m);
    assert.equal(status, 0);
  });
}

test("--version prints the version", () => {
  const { stdout } = spawnSync(process.execPath, [TOOLBOX, "--version"]);
  assert.equal(String(stdout), `${manifest.version}\n`);
});
