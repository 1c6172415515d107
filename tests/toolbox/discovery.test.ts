// Finding back-ends: each rule of the text of VhostUserBackend in vhost-user.json.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { test } from "node:test";
import { searchDirectories } from "../../host/discovery/directories.ts";
import { type Discovery, discover, type Query, type Verdict } from "../../host/discovery/discovery.ts";
import { BackendFiles } from "../support/backend-files.ts";

const AMPLE_MS = 20_000;
const DIRECTORIES = ["usr", "etc", "home"];

function find(files: BackendFiles, query: Query = {}): Promise<Discovery> {
  return discover(
    DIRECTORIES.map((name) => files.path(name)),
    query,
    AMPLE_MS,
  );
}

/** "usr/50-a.json taken" for each file, in order. */
async function verdicts(files: BackendFiles, query: Query = {}): Promise<string[]> {
  const { findings } = await find(files, query);
  return findings.map(({ path, verdict }) => `${path.slice(files.root.length + 1)} ${verdict}`);
}

async function only(files: BackendFiles, verdict: Verdict): Promise<string> {
  const { findings } = await find(files);
  const [finding, ...others] = findings.filter((each) => each.verdict === verdict);
  assert.deepEqual(others, []);
  return finding!.reason;
}

const HOME = "/home/me";

test("three directories are searched, from general to specific", () => {
  assert.deepEqual(searchDirectories({ HOME }), [
    "/usr/share/qemu/vhost-user",
    "/etc/qemu/vhost-user",
    "/home/me/.config/qemu/vhost-user",
  ]);
});

test("XDG_CONFIG_HOME takes the place of ~/.config", () => {
  const directories = searchDirectories({ HOME, XDG_CONFIG_HOME: "/cfg" });
  assert.equal(directories.at(-1), "/cfg/qemu/vhost-user");
});

test("XDG_DATA_DIRS takes the place of /usr/share, and its first directory is the most specific", () => {
  const directories = searchDirectories({ HOME, XDG_DATA_DIRS: "/usr/local/share:/usr/share/:/usr/share" });
  assert.deepEqual(directories.slice(0, -1), [
    "/usr/share/qemu/vhost-user",
    "/usr/local/share/qemu/vhost-user",
    "/etc/qemu/vhost-user",
  ]);
});

test("what is empty or relative in XDG's variables is ignored", () => {
  const expected = searchDirectories({ HOME });
  assert.deepEqual(searchDirectories({ HOME, XDG_DATA_DIRS: "", XDG_CONFIG_HOME: "" }), expected);
  assert.deepEqual(searchDirectories({ HOME, XDG_DATA_DIRS: "share:", XDG_CONFIG_HOME: "cfg" }), expected);
});

test("no directory at all is no failure", async () => {
  using files = new BackendFiles();
  const { directories, findings } = await find(files);
  assert.deepEqual(findings, []);
  assert.deepEqual(
    directories,
    DIRECTORIES.map((name) => ({ path: files.path(name) })),
  );
});

test("files are tried in the order of their names, whatever their directories", async () => {
  using files = new BackendFiles();
  for (const path of ["home/90-a.json", "etc/10-b.json", "usr/50-c.json", "usr/5-d.json"])
    files.backend(path, "fs");
  assert.deepEqual(await verdicts(files), [
    "etc/10-b.json taken",
    "usr/5-d.json fits",
    "usr/50-c.json fits",
    "home/90-a.json fits",
  ]);
});

test("names are ordered by their bytes, as in the C locale", async () => {
  using files = new BackendFiles();
  for (const name of ["a", "B", "é", "Z", "_"]) files.backend(`usr/${name}.json`, "fs");
  const { findings } = await find(files);
  assert.equal(findings.map(({ name }) => name[0]).join(""), "BZ_aé");
});

test("of files with one name, the one in the most specific directory takes effect", async () => {
  using files = new BackendFiles();
  for (const directory of DIRECTORIES) files.backend(`${directory}/50-a.json`, "fs");
  assert.deepEqual(await verdicts(files), [
    "usr/50-a.json overridden",
    "etc/50-a.json overridden",
    "home/50-a.json taken",
  ]);
  const { findings } = await find(files);
  assert.equal(findings[0]!.reason, `${files.path("home/50-a.json")} takes its place`);
});

test("a directory that stands in two places is searched once", async () => {
  using files = new BackendFiles();
  files.backend("etc/50-a.json", "fs");
  const { findings } = await discover([files.path("etc"), files.path("etc")], {}, AMPLE_MS);
  assert.deepEqual(
    findings.map(({ verdict }) => verdict),
    ["taken"],
  );
});

test("a zero-length file hides those of its name in less specific directories", async () => {
  using files = new BackendFiles();
  files.backend("usr/50-a.json", "fs");
  files.backend("usr/60-b.json", "fs");
  files.write("etc/50-a.json", "");
  assert.deepEqual(await verdicts(files), [
    "usr/50-a.json hidden",
    "etc/50-a.json hides",
    "usr/60-b.json taken",
  ]);
  assert.equal(await only(files, "hidden"), `${files.path("etc/50-a.json")} has no content and hides it`);
  assert.equal(await only(files, "hides"), `it has no content, and so hides ${files.path("usr/50-a.json")}`);
});

test("a zero-length file hides nothing in a more specific directory", async () => {
  using files = new BackendFiles();
  files.write("usr/50-a.json", "");
  files.backend("etc/50-a.json", "fs");
  assert.deepEqual(await verdicts(files), ["usr/50-a.json overridden", "etc/50-a.json taken"]);
});

test("a zero-length file with nothing to hide says so", async () => {
  using files = new BackendFiles();
  files.write("etc/50-a.json", "");
  assert.equal(await only(files, "hides"), "it has no content, and so hides nothing");
});

test("a file with only a space in it is no zero-length file", async () => {
  using files = new BackendFiles();
  files.backend("usr/50-a.json", "fs");
  files.write("etc/50-a.json", " ");
  assert.deepEqual(await verdicts(files), ["usr/50-a.json overridden", "etc/50-a.json broken"]);
});

test("a link to a file is as good as the file", async () => {
  using files = new BackendFiles();
  symlinkSync(
    files.backend("elsewhere/x.json", "fs"),
    files.write("usr/.keep", "").replace(".keep", "50-a.json"),
  );
  assert.deepEqual(await verdicts(files), ["usr/.keep ignored", "usr/50-a.json taken"]);
});

test("a link that leads nowhere takes effect, and is reported", async () => {
  using files = new BackendFiles();
  files.backend("usr/50-a.json", "fs");
  mkdirSync(files.path("etc"));
  symlinkSync("nowhere", files.path("etc/50-a.json"));
  assert.deepEqual(await verdicts(files), ["usr/50-a.json overridden", "etc/50-a.json broken"]);
  assert.equal(await only(files, "broken"), "it can't be read: no such file or directory");
});

test("directories, pipes, devices and names with a dot are ignored", async () => {
  using files = new BackendFiles();
  files.backend("usr/50-a.json", "fs");
  files.backend("usr/.50-b.json.swp", "fs");
  mkdirSync(files.path("etc/50-a.json"), { recursive: true });
  assert.equal(spawnSync("mkfifo", [files.path("etc/60-pipe.json")]).status, 0);
  symlinkSync("/dev/null", files.path("etc/70-null.json"));
  assert.deepEqual(await verdicts(files), [
    "usr/.50-b.json.swp ignored",
    "etc/50-a.json ignored",
    "usr/50-a.json taken",
    "etc/60-pipe.json ignored",
    "etc/70-null.json ignored",
  ]);
});

test("a directory that is none is told, and the others are searched", async () => {
  using files = new BackendFiles();
  files.write("usr", "");
  files.backend("etc/50-a.json", "fs");
  const { directories, findings } = await find(files);
  assert.equal(directories[0]!.fault, "it can't be read: not a directory");
  assert.deepEqual(
    findings.map(({ verdict }) => verdict),
    ["taken"],
  );
});

test("the first of a type is taken, and others of that type come after it", async () => {
  using files = new BackendFiles();
  files.backend("usr/10-gpu.json", "gpu", ["virgl"]);
  files.backend("usr/20-blk.json", "block", []);
  files.backend("usr/30-gpu.json", "gpu", []);
  const { findings } = await find(files);
  assert.deepEqual(
    findings.map(({ reason }) => reason),
    [
      "it is the first gpu back-end that fits",
      "it is the first block back-end that fits",
      "it fits, but 10-gpu.json comes before it",
    ],
  );
});

test("the first that has the type and all features is taken", async () => {
  using files = new BackendFiles();
  files.backend("usr/10-input.json", "input", ["no-grab"]);
  files.backend("usr/20-gpu.json", "gpu", []);
  files.backend("usr/30-gpu.json", "gpu", ["virgl"]);
  files.backend("usr/40-gpu.json", "gpu", ["render-node", "virgl"]);
  const { findings } = await find(files, { type: "gpu", features: ["virgl", "render-node"] });
  assert.deepEqual(
    findings.map(({ reason }) => reason),
    [
      "its type is input, not gpu",
      "it lacks virgl and render-node",
      "it lacks render-node",
      "it is the first gpu back-end that fits",
    ],
  );
});

test("programs of a type that is not wanted are not started", async () => {
  using files = new BackendFiles();
  const trace = files.path("started");
  files.describe("usr/10-gpu.json", "gpu", files.script("gpu", `touch ${trace}`));
  await find(files, { type: "block" });
  assert.equal(spawnSync("test", ["-e", trace]).status, 1);
});

test("a file is found by its name, with or without .json", async () => {
  using files = new BackendFiles();
  files.backend("usr/50-a.json", "fs");
  files.backend("usr/50-ab.json", "fs");
  for (const name of ["50-a", "50-a.json"])
    assert.deepEqual(await verdicts(files, { name }), ["usr/50-a.json taken"]);
});

test("what is broken is passed over: the next that fits is taken", async () => {
  using files = new BackendFiles();
  files.write("usr/10-a.json", "{");
  files.describe("usr/20-b.json", "fs", files.script("fails", "exit 1"));
  files.describe("usr/30-c.json", "fs", "/no/such/program");
  files.backend("usr/40-d.json", "fs");
  assert.deepEqual(await verdicts(files), [
    "usr/10-a.json broken",
    "usr/20-b.json broken",
    "usr/30-c.json broken",
    "usr/40-d.json taken",
  ]);
});

test("members that the schema does not know are warned of, and stop nothing", async () => {
  // As Debian 13's virtiofsd has it.
  using files = new BackendFiles();
  const binary = files.program("virtiofsd", { type: "fs", features: ["migrate-precopy"] });
  const description = {
    description: "virtiofsd vhost-user-fs",
    type: "fs",
    binary,
    features: ["migrate-precopy"],
  };
  files.write("usr/50-virtiofsd.json", JSON.stringify(description));
  const [finding] = (await find(files, { features: ["migrate-precopy"] })).findings;
  assert.equal(finding!.verdict, "taken");
  assert.deepEqual(finding!.warnings, ['the schema has no member "features"; see whether it is spelt right']);
});

test("a file of more than 1 MiB is not read", async () => {
  using files = new BackendFiles();
  files.write("usr/50-a.json", " ".repeat((1 << 20) + 1));
  assert.equal(await only(files, "broken"), "it can't be read: it has more than 1048576 bytes");
});
