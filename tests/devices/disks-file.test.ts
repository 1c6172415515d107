// A file of disks: what it may say, what is refused before anything is opened, and that schema and options are one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { validateDisk } from "../../build/schemas.js";
import { memberOf } from "../../host/devices/block/disks/disk.ts";
import { DISKS } from "../../host/devices/block/disks/words.ts";
import { BLOCK_OPTIONS, MEMBER_OPTIONS } from "../../host/devices/block/options.ts";
import { whyNotTogether } from "../../host/devices/members.ts";
import { defaultsOf, hyphenated, type Option } from "../../host/options/option.ts";
import schema from "../../schema/blk-disks.schema.json" with { type: "json" };
import { toolbox } from "../support/toolbox.ts";
import { PROGRAM } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "vringd-disks-"));
after(() => rmSync(directory, { recursive: true, force: true }));
const at = (name: string) => join(directory, name);

const DISK = { name: "web", socket: "/x/web.sock", "blk-file": "/x/web.img" };
const OTHER = { name: "db", socket: "/x/db.sock", "blk-file": "/x/db.img" };

/** What a program says that can't start. */
function refusal(...args: string[]): { status: number | null; sentence: string } {
  const { status, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: "utf8" });
  return { status, sentence: stderr.trimEnd().replaceAll(directory, "DIR") };
}

const FILES: readonly (readonly [content: string, sentence: string])[] = [
  ["{", "it is not JSON: it ends too early, at line 1, column 2"],
  ['{"disks":[],"disk":1}', 'the schema has no member "disk"; see whether it is spelt right'],
  ['{"disks":{}}', '"disks" must be an array, not an object'],
  [JSON.stringify({ disks: [{ ...DISK, name: undefined }] }), '"name" is missing in "disks 0"; add it'],
  [
    JSON.stringify({ disks: [OTHER, { ...DISK, socket: undefined }] }),
    '"socket" is missing in "disks 1"; add it',
  ],
  [
    JSON.stringify({ disks: [{ ...DISK, readonly: true }] }),
    'the schema has no member "readonly" in "disks 0"; see whether it is spelt right',
  ],
  [
    JSON.stringify({ disks: [{ ...DISK, "read-only": "yes" }] }),
    '"disks 0 read-only" must be a boolean, not a string',
  ],
  [JSON.stringify({ disks: [{ ...DISK, threads: 0 }] }), '"disks 0 threads" must be >= 1; it is 0'],
  [
    JSON.stringify({ disks: [{ ...DISK, name: "../web" }] }),
    '"disks 0 name" must match pattern "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"; it is "../web"',
  ],
  [
    JSON.stringify({ disks: [DISK, { ...OTHER, name: "web" }] }),
    "two disks are called web: give each a name of its own",
  ],
  [
    JSON.stringify({ disks: [DISK, { ...OTHER, socket: "/x/./web.sock" }] }),
    "two disks would be at /x/web.sock: give each disk a socket of its own",
  ],
  [
    JSON.stringify({ disks: [DISK, { ...OTHER, "blk-file": "/x/../x/web.img" }] }),
    "disks web and db would both have /x/../x/web.img, which only those that don't write can share: take another file for one",
  ],
  [
    JSON.stringify({ disks: [{ ...DISK, "iops-total": 5, "iops-read": 5 }] }),
    "disk web: --iops-total and --iops-read exclude each other",
  ],
];

describe("a file of disks is refused", () => {
  for (const [content, sentence] of FILES)
    test(content, async () => {
      writeFileSync(at("disks.json"), content);
      assert.deepEqual(refusal(`--config=${at("disks.json")}`), {
        status: 1,
        sentence: `vringd-blk: DIR/disks.json: ${sentence}`,
      });
      const { status, stdout, stderr } = await toolbox(["check", at("disks.json")]);
      assert.deepEqual(
        [status, stdout, stderr.trimEnd().replaceAll(directory, "DIR")],
        [1, "", `vringd: DIR/disks.json: ${sentence}`],
      );
    });

  test("that is not there", () => {
    assert.deepEqual(refusal(`--config=${at("none")}`), {
      status: 1,
      sentence: "vringd-blk: can't read the disks of DIR/none: no such file or directory",
    });
  });

  test("with one image that can't be opened, and nothing is left of the others", () => {
    writeFileSync(at("db.img"), Buffer.alloc(4096));
    const disks = [
      { name: "db", socket: at("db.sock"), "blk-file": at("db.img") },
      { name: "web", socket: at("web.sock"), "blk-file": at("web.img") },
    ];
    writeFileSync(at("disks.json"), JSON.stringify({ disks }));
    const { status, sentence } = refusal(
      `--config=${at("disks.json")}`,
      `--control-socket=${at("vms.control")}`,
      "--log-level=error",
    );
    assert.equal(status, 1);
    assert.match(sentence, /^vringd-blk: .*DIR\/web\.img.*no such file or directory/);
    for (const name of ["db.sock", "web.sock", "vms.control", "vms-db.control"])
      assert.ok(!existsSync(at(name)), name);
  });

  test("of more disks than a process serves", () => {
    const disks = Array.from({ length: DISKS.most + 1 }, (_, i) => ({
      name: `d${i}`,
      socket: `/x/d${i}.sock`,
      "blk-file": `/x/d${i}.img`,
    }));
    writeFileSync(at("disks.json"), JSON.stringify({ disks }));
    assert.deepEqual(refusal(`--config=${at("disks.json")}`), {
      status: 1,
      sentence:
        "vringd-blk: DIR/disks.json: there are 65 disks, and a process serves 64 at the most: start another one",
    });
  });
});

describe("a command line is refused", () => {
  for (const [args, sentence] of [
    [["--blk-file=x"], "--blk-file is of no use with --config, whose file says it for each disk"],
    [["--overlay=x"], "--overlay is of no use with --config, whose file says it for each disk"],
    [["--serial=x"], "--serial is of no use with --config, whose file says it for each disk"],
    [["--socket-path=x"], "--socket-path is of no use here: each of several devices has a socket of its own"],
    [["--connect=x"], "--connect is of no use here: each of several devices has a socket of its own"],
    [["--fd=3"], "--fd is of no use here: each of several devices has a socket of its own"],
    [["--once"], "--once is of no use here: disks come and go while it runs"],
  ] as const)
    test(`with --config and ${args[0]}`, () => {
      writeFileSync(at("disks.json"), '{"disks":[]}');
      assert.deepEqual(refusal(`--config=${at("disks.json")}`, ...args), {
        status: 2,
        sentence: `vringd-blk: ${sentence} (see --help)`,
      });
    });
});

describe("vringd check", () => {
  test("takes what a process would serve, of disks and of guests", async () => {
    writeFileSync(at("disks.json"), JSON.stringify({ disks: [DISK, { ...OTHER, "iops-total": 500 }] }));
    writeFileSync(at("guests.json"), '{"guests":[{"cid":4,"socket":"/x/a"},{"cid":5,"socket":"/x/b"}]}');
    const { status, stdout, stderr } = await toolbox(["check", at("disks.json"), at("guests.json")]);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.equal(stdout, `${at("disks.json")}: ok\n${at("guests.json")}: ok\n`);
  });

  for (const [content, sentence] of [
    ["[]", "it has none of the properties disks, guests; add one"],
    ["null", "it has none of the properties disks, guests; add one"],
    [
      '{"guests":[{"cid":4,"socket":"/x"},{"cid":4,"socket":"/y"}]}',
      "two guests have the CID 4: give each one of its own",
    ],
  ] as const)
    test(`refuses ${content}, and says of each other file what it is`, async () => {
      writeFileSync(at("disks.json"), JSON.stringify({ disks: [] }));
      writeFileSync(at("wrong.json"), content);
      const { status, stdout, stderr } = await toolbox(["check", at("wrong.json"), at("disks.json")]);
      assert.deepEqual(
        [status, stdout, stderr],
        [1, `${at("disks.json")}: ok\n`, `vringd: ${at("wrong.json")}: ${sentence}\n`],
      );
    });
});

describe("the schema of a disk", () => {
  const { properties, required } = schema.$defs.disk;
  const table: Readonly<Record<string, Option<unknown>>> = MEMBER_OPTIONS;

  test("has the options of a disk, and no other", () => {
    assert.deepEqual(Object.keys(properties).sort(), Object.keys(table).map(hyphenated).sort());
  });

  test("requires what they require", () => {
    const wanted = Object.keys(table).filter((name) => table[name]!.required !== undefined);
    assert.deepEqual([...required].sort(), wanted.map(hyphenated).sort());
  });

  /** What some options take, and others don't. */
  const VALUES: readonly unknown[] = [
    ...[
      true,
      false,
      null,
      {},
      [],
      ["raw"],
      1.5,
      -1,
      "",
      "x",
      "0",
      "-x",
      "x".repeat(20),
      "x".repeat(21),
      "é",
      "a/b",
    ],
    ...[
      "x".repeat(63),
      "x".repeat(64),
      "a b",
      "raw",
      "qcow2",
      "unmap",
      "ignore",
      "auto",
      "off",
      "threads",
      "io_uring",
    ],
    ...["nbd://x", "512"],
  ];
  for (const [name, { type }] of Object.entries(table))
    test(`takes for ${hyphenated(name)} what the option does`, () => {
      const { least = 0, most = 0 } = type?.range ?? {};
      const numbers = [0, 1, 512, 1000, 4096, least - 1, least, most, most + 1];
      for (const value of [...VALUES, ...numbers]) {
        const isTaken = type === undefined ? typeof value === "boolean" : type.accepts(value);
        const disk = { ...DISK, [hyphenated(name)]: value };
        assert.equal(validateDisk(disk), isTaken, JSON.stringify(value));
      }
    });
});

describe("disks of one process", () => {
  const defaults = defaultsOf(BLOCK_OPTIONS);
  const why = (...disks: object[]) =>
    whyNotTogether(
      disks.map((disk, i) =>
        memberOf({ name: `d${i}`, socket: `/x/${i}`, "blk-file": "/x/a", ...disk }, defaults),
      ),
      DISKS,
    );

  test("share an image that none of them writes", () => {
    assert.equal(why({ "read-only": true }, { "read-only": true }), undefined);
    assert.match(why({ "read-only": true }, {})!, /would both have \/x\/a/);
  });

  test("share the base of their overlays, each of which is one's own", () => {
    assert.equal(why({ overlay: "/x/1" }, { overlay: "/x/2" }), undefined);
    assert.match(why({ overlay: "/x/1" }, { overlay: "/x/1" })!, /would both have \/x\/1/);
    assert.match(why({ overlay: "/x/1" }, {})!, /would both have \/x\/a/);
  });

  test("have memory of their own by one name", () => {
    assert.equal(why({ "blk-file": "memory:1M" }, { "blk-file": "memory:1M" }), undefined);
  });
});
