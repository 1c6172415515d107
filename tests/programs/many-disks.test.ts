// Several disks of one vringd-blk: each is served, fails and ends for itself, and they come and go while the process runs.
import assert from "node:assert/strict";
import { chmodSync, existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DISKS } from "../../host/devices/block/disks/words.ts";
import { limitTests } from "../support/bounded-test.ts";
import { footprint, holdsNoMore, SMALL_HEAP } from "../support/footprint.ts";
import { whyNoLimitedUser } from "../support/limited-user.ts";
import { ManyDisks } from "../support/many-disks.ts";
import { ask } from "../support/observed.ts";
import { askAsNobody } from "../support/other-user.ts";
import { rawSplitRing } from "../support/raw-ring.ts";
import { Manager } from "../support/service-manager.ts";
import { skipWithout } from "../support/skip.ts";
import { startToolbox, toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import type { Vringd } from "../support/vringd.ts";

limitTests(300_000);

const SECTOR = 512;
const ROUNDS = 20;
const QUIET_MS = 200;

async function errorOf(reply: Promise<{ status: number; text: string }>): Promise<[number, string]> {
  const { status, text } = await reply;
  return [status, JSON.parse(text).error];
}

/** Connections of whoever has asked are closed a little later than the answer is there. */
async function isQuiet(daemon: Vringd): Promise<void> {
  const descriptors = () => daemon.procEntries("fd").length;
  await until(async () => {
    const before = descriptors();
    await sleep(QUIET_MS);
    return descriptors() === before;
  }, "descriptors come and go no more");
}

describe("two disks of a file", () => {
  test("are served at once, each its own image, by one thread each", async () => {
    await using disks = await ManyDisks.start(["web", "db"]);
    await using web = await disks.connect("web");
    await using db = await disks.connect("db");
    await Promise.all([
      web.disk().write(3, Buffer.alloc(SECTOR, 1)),
      db.disk().write(3, Buffer.alloc(SECTOR, 2)),
    ]);
    await Promise.all([web.disk().flush(), db.disk().flush()]);
    const stored = ["web", "db"].map((name) => readFileSync(disks.imageOf(name))[3 * SECTOR]);
    assert.deepEqual(stored, [1, 2]);
    const started = disks.daemon.linesLike(/workers started .*threads=1\b/);
    assert.deepEqual(
      started.map((line) => /disk=(\w+)/.exec(line)?.[1]),
      ["web", "db"],
    );
    assert.equal(await disks.daemon.stop(), 0);
    for (const path of ["web", "db"].flatMap((name) => [disks.socketOf(name), disks.controlOf(name)]))
      assert.ok(!existsSync(path), path);
    assert.ok(!existsSync(disks.control));
  });

  test("have limits of their own, and those that were given for all", async () => {
    await using disks = await ManyDisks.start(["web"], { args: ["--iops-total=700"] });
    assert.equal((await disks.add(disks.disk("db", { "iops-total": 900 }))).status, 201);
    const limits = async (name: string) =>
      JSON.parse((await ask(disks.controlOf(name), "POST", "/v1/commands", '{"command":"limits"}')).text);
    assert.deepEqual(await limits("web"), { "iops-total": 700 });
    assert.deepEqual(await limits("db"), { "iops-total": 900 });
  });

  test("fail each for itself: an image that ends too early, and a ring that is broken", async () => {
    await using disks = await ManyDisks.start(["cut", "torn", "good"]);
    await using good = await disks.connect("good");
    await using cut = await disks.connect("cut");
    await using torn = await disks.connect("torn");
    truncateSync(disks.imageOf("cut"), 0);
    await assert.rejects(cut.disk().read(8, 8), /status 1/);
    rawSplitRing(torn.queues[0]!).writeAvailIdx(0x7fff);
    torn.queues[0]!.kick(true);
    await disks.daemon.waitForLog(/ring broken .*disk=torn/);
    await good.disk().write(0, Buffer.alloc(SECTOR, 7));
    assert.equal((await good.disk().read(0, 1))[0], 7);
    assert.ok(await disks.daemon.waitForLog(/a read failed .*disk=cut/));
    assert.deepEqual(disks.daemon.linesLike(/(warn|error) .*disk=good/), []);
  });

  test("are served again after kill -9, by the same file", async () => {
    await using disks = await ManyDisks.start(["web", "db"]);
    await using web = await disks.connect("web", { inflight: true });
    await using db = await disks.connect("db", { inflight: true });
    await web.disk().write(0, Buffer.alloc(SECTOR, 1));
    await disks.daemon.kill9();
    await disks.daemon.restart();
    await web.reconnect(disks.socketOf("web"));
    await db.reconnect(disks.socketOf("db"));
    for (const frontEnd of [web, db]) await frontEnd.disk().write(1, Buffer.alloc(SECTOR, 9));
    assert.equal((await web.disk().read(0, 1))[0], 1);
  });
});

test(`${DISKS.most} disks are served by one process, and no more`, async () => {
  const names = Array.from({ length: DISKS.most }, (_, i) => `d${i}`);
  await using disks = await ManyDisks.start(names);
  await using last = await disks.connect(names.at(-1)!);
  await last.disk().read(0, 8);
  const [status, error] = await errorOf(disks.add(disks.disk("more")));
  assert.equal(status, 409);
  assert.match(error, /^there are 65 disks, and a process serves 64 at the most: start another one$/);
  await last.disk().read(0, 8);
  assert.equal(await disks.daemon.stop(), 0);
});

test("a file may have no disk yet", async () => {
  await using disks = await ManyDisks.start([]);
  assert.deepEqual(await disks.list(), []);
  assert.equal((await disks.add(disks.disk("web"))).status, 201);
  await using web = await disks.connect("web");
  await web.disk().read(0, 8);
  assert.equal(await disks.daemon.stop(), 0);
});

describe("a disk that is added", () => {
  test("is served, listed, and seen at a control socket of its own", async () => {
    await using disks = await ManyDisks.start(["web"]);
    const { status, text } = await disks.add(disks.disk("db"));
    assert.equal(status, 201);
    const db = { name: "db", socket: disks.socketOf("db"), state: "waiting", image: disks.imageOf("db") };
    assert.deepEqual(JSON.parse(text), db);
    await using frontEnd = await disks.connect("db");
    await frontEnd.disk().read(0, 8);
    const web = { name: "web", socket: disks.socketOf("web"), state: "waiting", image: disks.imageOf("web") };
    assert.deepEqual(await disks.list(), [web, { ...db, state: "connected" }]);
    const { entrance } = JSON.parse((await ask(disks.controlOf("db"), "GET", "/v1/status")).text);
    assert.deepEqual(entrance, { socketPath: disks.socketOf("db") });
    assert.equal(await disks.daemon.stop(), 0);
  });

  for (const [why, change, status, sentence] of [
    ["that is no object", () => [], 400, /^the whole must be an object, not an array$/],
    ["without a socket", () => ({ socket: undefined }), 400, /^"socket" is missing; add it$/],
    ["with an unknown option", () => ({ size: 1 }), 400, /^the schema has no member "size"; see/],
    [
      "with limits that exclude each other",
      () => ({ "bps-total": 9, "bps-read": 9 }),
      400,
      /^disk new: --bps-total and --bps-read exclude/,
    ],
    ["with the name of another", () => ({ name: "web" }), 409, /^two disks are called web: /],
    [
      "at the socket of another",
      (disks: ManyDisks) => ({ socket: disks.socketOf("web") }),
      409,
      /^two disks would be at .*web\.sock: /,
    ],
    [
      "with the image of another",
      (disks: ManyDisks) => ({ "blk-file": disks.imageOf("web") }),
      409,
      /^disks web and new would both have .*web\.img, /,
    ],
    [
      "with an image that is not there",
      () => ({ "blk-file": "/nonexistent" }),
      409,
      /\/nonexistent.*no such file/,
    ],
    [
      "where a directory is missing",
      () => ({ socket: "/nonexistent/new.sock" }),
      409,
      /directory \/nonexistent of the socket/,
    ],
  ] as const)
    test(`${why} is refused, and nothing of it is left`, async () => {
      await using disks = await ManyDisks.start(["web"]);
      await using web = await disks.connect("web");
      const fds = disks.daemon.procEntries("fd").length;
      const changed = change(disks);
      const asked = Array.isArray(changed) ? changed : { ...disks.disk("new"), ...changed };
      const [got, error] = await errorOf(disks.ask("POST", "/v1/disks", asked));
      assert.equal(got, status, error);
      assert.match(error, sentence);
      assert.deepEqual(
        (await disks.list()).map(({ name }) => name),
        ["web"],
      );
      await until(() => disks.daemon.procEntries("fd").length <= fds, "all is closed");
      assert.ok(!existsSync(disks.controlOf("new")));
      await web.disk().read(0, 8);
    });

  test("is refused where its control socket can't be, and its image is free again", async () => {
    await using disks = await ManyDisks.start(["web"]);
    await using other = await ManyDisks.start([]);
    const disk = disks.disk("db");
    writeFileSync(disks.controlOf("db"), "");
    const [status, error] = await errorOf(disks.add(disk));
    assert.equal(status, 409, error);
    assert.match(error, /vms-db\.control exists and is no socket/);
    assert.ok(!existsSync(disks.socketOf("db")));
    assert.equal((await other.add(disk)).status, 201);
  });

  test("of another user's is refused, who may list and remove", {
    skip: skipWithout(whyNoLimitedUser()),
  }, async () => {
    await using disks = await ManyDisks.start(["web"], { args: ["--control-socket-mode=666"] });
    chmodSync(disks.directory, 0o755);
    const disk = disks.disk("db");
    const as = (method: string, path: string, body?: object) =>
      askAsNobody(disks.control, method, path, body && JSON.stringify(body));
    const refused = as("POST", "/v1/disks", disk);
    assert.equal(refused.status, 403, refused.text);
    assert.match(refused.text, /only root and the user of this process may add/);
    assert.equal(as("GET", "/v1/disks").status, 200);
    assert.equal(as("DELETE", "/v1/disks/web").status, 200);
    assert.equal((await disks.add(disk)).status, 201);
  });

  test("is added once, whoever asks at the same time; others are added beside it", async () => {
    await using disks = await ManyDisks.start(["web"]);
    const [db, mail] = [disks.disk("db"), disks.disk("mail")];
    const replies = await Promise.all([disks.add(db), disks.add(db), disks.add(mail)]);
    assert.deepEqual(replies.map(({ status }) => status).sort(), [201, 201, 409]);
    const removals = await Promise.all([disks.remove("db"), disks.remove("db"), disks.remove("mail")]);
    const statuses = removals.map(({ status }) => status).sort();
    assert.ok(statuses[0] === 200 && statuses[1] === 200 && statuses[2]! >= 404, String(statuses));
    assert.deepEqual(
      (await disks.list()).map(({ name }) => name),
      ["web"],
    );
  });

  test("is refused by a body that is no JSON", async () => {
    await using disks = await ManyDisks.start([]);
    const reply = ask(disks.control, "POST", "/v1/disks", "{");
    assert.deepEqual(await errorOf(reply), [400, "the body is no JSON"]);
  });
});

describe("a disk that is removed", () => {
  test("leaves its image, its socket and its name to the next", async () => {
    await using disks = await ManyDisks.start(["web", "db"]);
    await using db = await disks.connect("db");
    for (let i = 0; i < 2; i++) {
      const { status, text } = await disks.remove("web");
      assert.deepEqual([status, text], [200, '{"removed":"web"}\n']);
      assert.ok(!existsSync(disks.socketOf("web")) && !existsSync(disks.controlOf("web")));
      assert.equal((await disks.add(disks.disk("web"))).status, 201);
    }
    await db.disk().read(0, 8);
  });

  test("is refused while a front-end is connected, unless it is forced", async () => {
    await using disks = await ManyDisks.start(["web", "db"]);
    await using web = await disks.connect("web");
    await using db = await disks.connect("db");
    assert.deepEqual(await errorOf(disks.remove("web")), [
      409,
      "a front-end is connected to disk web: end its guest first, or force it",
    ]);
    await web.disk().read(0, 8);
    assert.equal((await disks.remove("web", "?force=true")).status, 200);
    assert.deepEqual(
      (await disks.list()).map(({ name }) => name),
      ["db"],
    );
    await db.disk().read(0, 8);
    await disks.daemon.waitForLog(/front-end left .*disk=web/);
  });

  test("is not there for others, nor twice", async () => {
    await using disks = await ManyDisks.start(["web"]);
    assert.deepEqual(await errorOf(disks.remove("db")), [404, "there is no db among the disks"]);
    assert.deepEqual(await errorOf(disks.remove("web", "?force=maybe")), [
      400,
      "force is true or false, not maybe",
    ]);
    assert.equal((await disks.remove("web")).status, 200);
    assert.equal((await disks.remove("web")).status, 404);
  });

  test(`leaves nothing in the process, ${ROUNDS} times`, async () => {
    await using disks = await ManyDisks.start(["stays"], { under: SMALL_HEAP });
    const { daemon } = disks;
    const round = async () => {
      assert.equal((await disks.add(disks.disk("comes"))).status, 201);
      const frontEnd = await disks.connect("comes");
      await frontEnd.disk().write(0, Buffer.alloc(64 << 10, 1));
      await ask(disks.controlOf("comes"), "GET", "/v1/stats");
      assert.equal((await disks.remove("comes", "?force=true")).status, 200);
      frontEnd.close();
    };
    // What is loaded once stays.
    await round();
    await isQuiet(daemon);
    const clean = footprint(daemon);
    for (let i = 0; i < ROUNDS; i++) await round();
    await isQuiet(daemon);
    holdsNoMore(daemon, clean);
  });
});

describe("tools", () => {
  test("add, list and remove disks by the options of the program", async () => {
    await using disks = await ManyDisks.start(["web"]);
    const { imageOf, socketOf } = { imageOf: disks.disk("db")["blk-file"], socketOf: disks.socketOf("db") };
    const ctl = (...args: string[]) => toolbox(["ctl", disks.control, ...args], { cwd: disks.directory });
    const added = await ctl(
      "add",
      "--name=db",
      "--socket",
      "db.sock",
      "--blk-file=db.img",
      "--read-only",
      "--iops-total=9",
    );
    assert.deepEqual([added.status, added.stdout, added.stderr], [0, `db is served at ${socketOf}.\n`, ""]);
    const { stdout } = await ctl("disks", "--json");
    assert.deepEqual(JSON.parse(stdout)[1], {
      name: "db",
      socket: socketOf,
      state: "waiting",
      image: imageOf,
    });
    const table = (await ctl("disks")).stdout;
    assert.match(table, /^NAME +SOCKET +STATE +IMAGE$/m);
    assert.match(table, /^db .* waiting /m);
    const { disk } = JSON.parse((await ask(disks.controlOf("db"), "GET", "/v1/status")).text);
    assert.equal(disk.readOnly, true);
    await using db = await disks.connect("db");
    await db.disk().read(0, 8);
    const refused = await ctl("remove", "db");
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /a front-end is connected to disk db/);
    const removed = await ctl("remove", "db", "--force");
    assert.deepEqual([removed.status, removed.stdout], [0, "db is served no more.\n"]);
  });

  for (const [args, sentence] of [
    [["add", "--name=db"], "vringd: --socket is missing: where the disk's front-end connects (see --help)"],
    [
      ["add", "--name=a/b"],
      'vringd: --name takes a name of letters, digits, and . _ - behind the first, up to 63, not "a/b" (see --help)',
    ],
    [["add", "--nmae=x"], "vringd: unknown option '--nmae' (see --help)"],
    [["status", "--name=x"], "vringd: unknown option '--name' (see --help)"],
    [["remove"], "vringd: remove takes the name of one disk, and --force (see --help)"],
  ] as const)
    test(`refuse ${args.join(" ")}`, async () => {
      await using disks = await ManyDisks.start([]);
      const { status, stderr } = await toolbox(["ctl", disks.control, ...args]);
      assert.deepEqual([status, stderr.trimEnd().replace(/ \(Did you mean.*?\)/, "")], [2, sentence]);
    });

  test("show each disk, and no process twice", async () => {
    await using disks = await ManyDisks.start(["web", "db"]);
    const runtime = { XDG_RUNTIME_DIR: disks.directory };
    const ls = await toolbox(["ls", "--json"], { env: runtime });
    const listed = JSON.parse(ls.stdout).filter(({ socket }: { socket: string }) =>
      socket.startsWith(disks.directory),
    );
    assert.deepEqual(
      listed.map(({ device }: { device: string }) => device),
      ["vms-db", "vms-web"],
    );
    assert.equal(ls.stderr, "");
    const top = await toolbox(["top", "--once", "--json"], { env: runtime });
    const looks = JSON.parse(top.stdout).filter(({ socket }: { socket: string }) =>
      socket.startsWith(disks.directory),
    );
    assert.deepEqual(
      looks.map(({ device }: { device: string }) => device),
      ["vms-db", "vms-web"],
    );
    const listen = join(disks.directory, "exporter");
    const exporter = startToolbox(["exporter", `--listen=unix:${listen}`], { env: runtime });
    await until(() => existsSync(listen), "the exporter listens");
    const { text } = await ask(listen, "GET", "/metrics");
    exporter.child.kill();
    const up = [...text.matchAll(/^vringd_up\{device="(vms.*)"\} (.)$/gm)].map(([, device, isUp]) => [
      device,
      isUp,
    ]);
    assert.deepEqual(up, [["vms-db", "1"], ["vms-web", "1"]]); // biome-ignore format: a pair each
    assert.equal([...text.matchAll(/^vringd_blk_front_end_connected\{device="vms-web"/gm)].length, 1);
    await exporter.done;
  });
});

test("metrics have all disks by name, as they come and go", async () => {
  await using disks = await ManyDisks.start(["web"]);
  const metrics = async () => (await disks.ask("GET", "/v1/process/metrics")).text;
  assert.match(await metrics(), /^vringd_blk_front_end_connected\{name="web"\} 0$/m);
  await disks.add(disks.disk("db"));
  await using db = await disks.connect("db");
  await db.disk().read(0, 8);
  const text = await metrics();
  assert.match(text, /^vringd_blk_front_end_connected\{name="db"\} 1$/m);
  assert.match(text, /^vringd_blk_requests_total\{queue="0",op="read",name="db"\} 1$/m);
  assert.match(text, /^vringd_blk_info\{.*disk=".*web\.img",name="web"\} 1$/m);
  await disks.remove("web");
  assert.doesNotMatch(await metrics(), /name="web"/);
  await disks.remove("db", "?force=true");
  assert.match(await metrics(), /^process_resident_memory_bytes [1-9]/m);
});

test("a service manager hears how many front-ends there are of how many disks", async () => {
  await using place = await ManyDisks.start([]);
  const name = join(place.directory, "notify");
  const manager = new Manager(name);
  try {
    await using disks = await ManyDisks.start(["web"], { under: ["env", `NOTIFY_SOCKET=${name}`] });
    await manager.hears(/^STATUS=serving 0 of 1 front-ends$/m);
    await disks.add(disks.disk("db"));
    await manager.hears(/^STATUS=serving 0 of 2 front-ends$/m);
    await using db = await disks.connect("db");
    await manager.hears(/^STATUS=serving 1 of 2 front-ends$/m);
    await disks.remove("db", "?force=true");
    await manager.hears(/^STATUS=serving 0 of 1 front-ends$/m);
    assert.ok(db);
  } finally {
    manager.close();
  }
});

test("a process of one disk says that it takes no other", async () => {
  await using disks = await ManyDisks.start(["web"]);
  const { status, stderr } = await toolbox(["ctl", disks.controlOf("web"), "disks"]);
  assert.equal(status, 1);
  assert.match(stderr, /is the socket of one device: ask that of a process whose devices come and go/);
});
