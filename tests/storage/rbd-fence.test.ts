// Who may write to an RBD image: one at a time; and what becomes of one from whom it was taken while it could not know.
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_T_OUT } from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { newKey } from "../support/ceph-keys.ts";
import { Observed } from "../support/observed.ts";
import { tellSeed } from "../support/random.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

limitTests(900_000);

/** Seconds; a client pings every 5. Ceph's default is 30. */
const WATCH_TIMEOUT = 15;
const PATIENCE_MS = 300_000;
const BYTES = 64 << 10;
/** Of a user, as docs/ceph.md has them. */
const CAPS = ["mon", "profile rbd", "osd", "profile rbd pool=rbd"];

describe("an RBD image has one writer", { skip: skipWithout(cephUnavailable()) }, () => {
  let rig: RbdRig;
  before(async () => {
    rig = await RbdRig.start({ cephx: true, osd: [`osd_client_watch_timeout = ${WATCH_TIMEOUT}`] });
  });
  after(() => rig[Symbol.asyncDispose]());

  test("a second daemon is refused while the first lives, on its host and on another", async () => {
    const image = await rig.makeImage();
    await using first = await rig.serve(image);
    rig.isRefused(
      rig.uri(image),
      new RegExp(`: process ${first.pid} has it; it can be served when that has ended$`),
    );
    const away = rig.env("two");
    const there = /the client 127\.0\.0\.1:0\/\d+ has its lock and is still there; .*--read-only serves it/;
    rig.isRefused(rig.uri(image), there, ["--lock-timeout=0"], away);
    await using reader = await rig.serve(image, "--read-only");
    assert.equal(await reader.stop(), 0);
    assert.equal(await first.stop(), 0);
    await using next = await Vringd.start(rig.options(image, [], "two"));
    assert.equal(await next.stop(), 0);
    assert.deepEqual(next.linesLike(/waiting|broken/), []);
  });

  test("a client that took the lock by itself is not robbed of it", async () => {
    const image = await rig.makeImage();
    const bench = rig.cluster.spawn(
      "rbd",
      "bench",
      "--io-type",
      "write",
      "--io-size",
      "4K",
      "--io-total",
      "1T",
      image,
    );
    const isHeld = async () =>
      /exclusive/.test(await rig.cluster.rbd("lock", "ls", image)) || (await ownersOf(image));
    await until(isHeld, "rbd bench has the lock", PATIENCE_MS);
    rig.isRefused(rig.uri(image), /has its lock and is still there/, ["--lock-timeout=0"]);
    assert.equal(bench.exitCode, null, "it goes on");
    bench.kill("SIGKILL");
    await once(bench, "exit");
    // A dead one's watch expires, and then its writes are fenced off.
    await using daemon = await rig.serve(image, `--lock-timeout=${PATIENCE_MS / 1000}`);
    assert.equal(await daemon.stop(), 0);
  });

  async function ownersOf(image: string): Promise<boolean> {
    return (await rig.cluster.rbd("lock", "ls", "--format=json", image)).length > "[]\n".length;
  }

  test("one that was frozen, and overtaken meanwhile, fails all that it had under way", async (t) => {
    const image = await rig.makeImage();
    const random = tellSeed(t);
    await using first = await Observed.start(rig.options(image));
    const frozen = await FrontEnd.connect(first.daemon.socketPath);
    t.after(() => frozen.close());
    const disk = frozen.disk();
    disk.requestTimeoutMs = 2 * PATIENCE_MS;
    await disk.write(0, random.bytes(BYTES));
    let writes = 0;
    const late = Array.from({ length: 16 }, (_, i) => writeUntilItFails(i * 128));
    await until(() => writes > 50, "writes are under way");
    process.kill(first.daemon.pid, "SIGSTOP");
    // Whatever goes wrong, it can end: before it is told to.
    using _thawed = {
      [Symbol.dispose]: () => first.daemon.hasEnded || process.kill(first.daemon.pid, "SIGCONT"),
    };

    const options = rig.options(image, [`--lock-timeout=${PATIENCE_MS / 1000}`], "two");
    await using second = await Vringd.start(options);
    const overtaking = await FrontEnd.connect(second.socketPath);
    t.after(() => overtaking.close());
    const bytes = random.bytes(2 << 20);
    await overtaking.disk().write(0, bytes);

    process.kill(first.daemon.pid, "SIGCONT");
    await Promise.all(late);
    const { status } = await disk.request({ type: VIRTIO_BLK_T_OUT, sector: 0, out: random.bytes(BYTES) });
    assert.equal(status, VIRTIO_BLK_S_IOERR);
    await first.daemon.waitForLog(/ error .*the cluster takes nothing from this one any more/);
    assert.equal(first.daemon.linesLike(/takes nothing from this one/).length, 1);
    assert.equal((await first.get("/v1/status")).disk.lock, "fenced");
    assert.match((await first.ask("GET", "/v1/metrics")).text, /^vringd_blk_fenced 1$/m);
    assert.ok((await overtaking.disk().read(0, bytes.length / 512)).equals(bytes));

    assert.equal(await second.stop(), 0);
    assert.equal(first.daemon.hasEnded, false, "a restart would fight for it");
    assert.equal(await first.daemon.stop(), 0);
    assert.ok((await rig.cluster.exported(image)).subarray(0, bytes.length).equals(bytes));

    /** One write after the other, until one fails. */
    async function writeUntilItFails(sector: number): Promise<void> {
      const out = random.bytes(BYTES);
      for (;;) {
        const { status } = await disk.request({ type: VIRTIO_BLK_T_OUT, sector, out });
        writes++;
        if (status !== VIRTIO_BLK_S_OK) return;
      }
    }
  });

  test("one that is idle notices that it was fenced off", async () => {
    const image = await rig.makeImage();
    await using observed = await Observed.start(rig.options(image));
    const lock = async () => (await observed.get("/v1/status")).disk.lock;
    assert.equal(await lock(), "held");
    const [, address] = /watcher=(\S+)/.exec(await rig.cluster.rbd("status", image)) ?? [];
    await rig.cluster.ceph("osd", "blocklist", "add", address!);
    await observed.daemon.waitForLog(/ error .*takes nothing from this one any more/, PATIENCE_MS);
    assert.equal(await lock(), "fenced");
    assert.equal(await observed.daemon.stop(), 0);
    assert.equal(observed.daemon.linesLike(/takes nothing from this one/).length, 1);
  });

  test("an image without the lock's feature is refused, unless locks are off", async () => {
    const image = await rig.makeImage(16, "--image-feature", "layering");
    const remedy = new RegExp(`rbd feature enable ${image} exclusive-lock, or say --lock=off$`);
    rig.isRefused(rig.uri(image), remedy);
    await using daemon = await Observed.start(rig.options(image, ["--lock=off"]));
    const frontEnd = await FrontEnd.connect(daemon.daemon.socketPath);
    const { status } = await frontEnd
      .disk()
      .request({ type: VIRTIO_BLK_T_OUT, sector: 0, out: Buffer.alloc(512, 1) });
    frontEnd.close();
    assert.equal(status, VIRTIO_BLK_S_OK);
    assert.equal((await daemon.get("/v1/status")).disk.lock, "none");
  });

  test("a cache that the image's own settings ask for is refused", async () => {
    const image = await rig.makeImage();
    await rig.cluster.rbd("config", "image", "set", image, "rbd_cache", "true");
    const remedy = new RegExp(`rbd_cache is true there, .*: rbd config image rm ${image} rbd_cache$`);
    rig.isRefused(rig.uri(image), remedy);
    await rig.cluster.rbd("config", "image", "set", image, "rbd_cache", "false");
    await using daemon = await rig.serve(image);
    assert.equal(await daemon.stop(), 0);
  });

  test("lets a user with the caps that it takes fence off what was killed, and no other", async () => {
    const image = await rig.makeImage();
    const blkFile = await rig.asUser(image, "fencing", CAPS);
    await using daemon = await Vringd.start({ blkFile, env: rig.env() });
    await daemon.kill9();
    await daemon.restart();
    await daemon.waitForLog(/is broken, and what it has sent is fenced off/);
    await daemon.kill9();
    const weaker = await rig.asUser(image, "weaker", ["mon", "allow r", "osd", "allow rwx pool=rbd"]);
    rig.isRefused(weaker, /can't be broken: .*; the blocklist is part of the caps mon 'profile rbd'$/);
    await daemon.restart();
    assert.equal(await daemon.stop(), 0);
  });

  test("refuses whoever has a wrong key, none, or no caps, which is said in one sentence", async () => {
    const image = await rig.makeImage();
    const stranger = join(rig.cluster.directory, "stranger.keyring");
    writeFileSync(stranger, `[client.fencing]\nkey = ${newKey()}\n`);
    rig.isRefused(
      rig.uri(image, { id: "fencing", keyring: stranger }),
      /the cluster refuses client\.fencing: .*; compare its keyring with ceph auth get client\.fencing$/,
    );
    rig.isRefused(
      rig.uri(image, { id: "fencing", keyring: "/nowhere/keyring" }),
      /there is no keyring for client\.fencing \(looked for \/nowhere\/keyring\)$/,
    );
    const caps =
      /client\.\w+ may not open it: it needs the caps mon 'profile rbd' and osd 'profile rbd pool=POOL'$/;
    rig.isRefused(
      await rig.asUser(image, "elsewhere", ["mon", "profile rbd", "osd", "profile rbd pool=other"]),
      caps,
    );
    rig.isRefused(await rig.asUser(image, "nobody", ["mon", "allow r"]), caps);
  });
});
