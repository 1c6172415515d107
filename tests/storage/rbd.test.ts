// vringd-blk on an RBD image: what it holds, what the guest sees of it, and what keeps it from being served.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import {
  BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT,
  BLK_CONFIG_OPT_IO_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
} from "../../assembly/spec/virtio-blk.ts";
import type { BlkDriver } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { ResizeRig, statusesAt } from "../support/resize-rig.ts";
import { skipWithout } from "../support/skip.ts";
import { toolbox } from "../support/toolbox.ts";
import { Vringd } from "../support/vringd.ts";

/** A cluster on a busy machine takes its time. */
limitTests(600_000);

const MIB = 1 << 20;
const SECTORS_OF_MIB = MIB / 512;
const SIZE = 16 * MIB;
const PATIENCE_MS = 120_000;
const OK = Array(4).fill(VIRTIO_BLK_S_OK);
const IOERR = Array(4).fill(VIRTIO_BLK_S_IOERR);

async function connect(daemon: Vringd, t: TestContext, queues = 1): Promise<FrontEnd> {
  const frontEnd = await FrontEnd.connect(daemon.socketPath, { queues });
  t.after(() => frontEnd.close());
  return frontEnd;
}

/** Writes, zeroes and discards; gives what must be there then. */
async function change(disks: readonly BlkDriver[], random: Random): Promise<Buffer> {
  const expected = Buffer.alloc(SIZE);
  for (let i = 0; i < 40; i++) {
    const sectors = 1 + random.below(600);
    const sector = random.below(SIZE / 512 - sectors);
    const bytes = random.bytes(sectors * 512);
    bytes.copy(expected, sector * 512);
    await disks[i % disks.length]!.write(sector, bytes);
  }
  const [disk] = disks;
  for (let flags = 0; flags < 10; flags++) {
    const [sector, sectors] = [random.below(8 * SECTORS_OF_MIB), 1 + random.below(5000)];
    await disk!.writeZeroes([{ sector, sectors, flags: flags % 2 }]);
    expected.fill(0, sector * 512, (sector + sectors) * 512);
  }
  await disk!.flush();
  // Whole objects: what is smaller may stay as it is.
  await disk!.discard([{ sector: 8 * SECTORS_OF_MIB, sectors: 8 * SECTORS_OF_MIB }]);
  return expected.fill(0, 8 * MIB);
}

describe("vringd-blk on an RBD image", { skip: skipWithout(cephUnavailable()) }, () => {
  let rig: RbdRig;
  before(async () => {
    rig = await RbdRig.start();
  });
  after(() => rig[Symbol.asyncDispose]());

  test("holds what was written, zeroed and discarded", async (t) => {
    const image = await rig.makeImage(SIZE / MIB);
    await using daemon = await rig.serve(image);
    const frontEnd = await connect(daemon, t, 2);
    assert.equal(frontEnd.capacity, SIZE / 512);
    const disks = [frontEnd.disk(0), frontEnd.disk(1)];
    const expected = await change(disks, tellSeed(t));
    for (let at = 0; at < SIZE; at += MIB) {
      const found = await disks[0]!.read(at / 512, SECTORS_OF_MIB);
      assert.ok(found.equals(expected.subarray(at, at + MIB)), `at ${at}`);
    }
    assert.ok((await rig.cluster.exported(image)).equals(expected), "while it is served");
    assert.equal(await daemon.stop(), 0);
    assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
    assert.ok((await rig.cluster.exported(image)).equals(expected));
  });

  test("keeps what it was given in large requests of many segments, in a namespace", async (t) => {
    await rig.cluster.rbd("namespace", "create", "rbd/apart");
    const image = "rbd/apart/disk";
    await rig.cluster.rbd("create", "--size", "16M", image);
    const bytes = tellSeed(t).bytes(4 * MIB);
    await using daemon = await rig.serve(image);
    const frontEnd = await connect(daemon, t);
    const writableLengths = [...Array<number>(64).fill(bytes.length / 64), 1];
    const disk = frontEnd.disk();
    const readableLengths = [16, ...Array<number>(64).fill(bytes.length / 64)];
    const { status } = await disk.request({ type: 1, sector: 4099, out: bytes, readableLengths });
    assert.equal(status, VIRTIO_BLK_S_OK);
    const read = await disk.request({ type: 0, sector: 4099, inLength: bytes.length, writableLengths });
    assert.ok(read.data.equals(bytes));
    assert.ok(
      (await rig.cluster.exported(image))
        .subarray(4099 * 512)
        .subarray(0, bytes.length)
        .equals(bytes),
    );
  });

  test("tells the guest what is best discarded, and read or written at a time, and names the disk", async (t) => {
    const image = await rig.makeImage(16, "--object-size", "1M");
    const serials: string[] = [];
    for (const name of [image, "rbd/renamed"]) {
      if (name !== image) await rig.cluster.rbd("rename", image, name);
      await using daemon = await rig.serve(name);
      const frontEnd = await connect(daemon, t);
      assert.equal(frontEnd.config.readUInt32LE(BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT), 128);
      assert.equal(frontEnd.config.readUInt32LE(BLK_CONFIG_OPT_IO_SIZE), 2048);
      serials.push(await frontEnd.disk().getId());
      assert.equal(await daemon.stop(), 0);
    }
    assert.match(serials[0]!, /^[0-9a-f]{20}$/);
    assert.equal(serials[1], serials[0]);
  });

  test("grows and shrinks as others resize it, and says so to the guest", async () => {
    const image = await rig.makeImage(8);
    await using resized = await ResizeRig.start(rig.options(image));
    await resized.giveChannel();
    const disk = resized.frontEnd.disk();
    const end = 8 * SECTORS_OF_MIB;
    assert.deepEqual(await statusesAt(disk, end, 8), IOERR);
    await rig.cluster.rbd("resize", "--size", "12M", image);
    assert.equal(await resized.hearCapacity(), 12 * SECTORS_OF_MIB);
    assert.deepEqual(await statusesAt(disk, end, 8), OK);
    await rig.cluster.rbd("resize", "--allow-shrink", "--size", "4M", image);
    await resized.observed.daemon.waitForLog(/ warn .*has become shorter than its disk/, PATIENCE_MS);
    assert.equal((await resized.resize("--shrink")).status, 200);
    assert.equal(await resized.hearCapacity(), 4 * SECTORS_OF_MIB);
    assert.deepEqual(await statusesAt(disk, end, 8), IOERR);
    assert.deepEqual(await statusesAt(disk, 0, 8), OK);
    assert.equal((await resized.resize("--size=32M")).status, 400, "that is rbd's to do");
  });

  test("shows a snapshot that was taken while it was written to", async (t) => {
    const image = await rig.makeImage(SIZE / MIB);
    const random = tellSeed(t);
    await using daemon = await rig.serve(image);
    const disk = (await connect(daemon, t)).disk();
    const before = random.bytes(2 * MIB);
    await disk.write(0, before);
    let isOver = false;
    const load = (async () => {
      while (!isOver) await disk.write(8 * SECTORS_OF_MIB, random.bytes(4096));
    })();
    await rig.cluster.rbd("snap", "create", `${image}@then`);
    await disk.write(0, random.bytes(2 * MIB));
    isOver = true;
    await load;
    await using shown = await rig.serve(`${image}@then`);
    const snapshot = await connect(shown, t);
    assert.ok((await snapshot.disk().read(0, 2 * SECTORS_OF_MIB)).equals(before));
    assert.deepEqual((await statusesAt(snapshot.disk(), 0, 8)).slice(1), IOERR.slice(1), "read-only");
    assert.ok((await rig.cluster.exported(`${image}@then`)).subarray(0, before.length).equals(before));
    assert.equal(await shown.stop(), 0);
    assert.equal(await daemon.stop(), 0);
  });

  test("is the base of overlays once it has a snapshot, and others go on with the image", async (t) => {
    const image = await rig.makeImage(SIZE / MIB);
    const random = tellSeed(t);
    await using writer = await rig.serve(image);
    const head = (await connect(writer, t)).disk();
    const contents = random.bytes(4 * MIB);
    await head.write(SECTORS_OF_MIB, contents);
    await rig.cluster.rbd("snap", "create", `${image}@base`);
    await using daemon = await Vringd.start({ ...rig.options(`${image}@base`), overlay: true });
    assert.match(
      await daemon.waitForLog(/ warn /),
      /can be removed by anybody.*rbd snap protect rbd\/disk\d+@base/,
    );
    const frontEnd = await connect(daemon, t);
    assert.ok((await frontEnd.disk().read(SECTORS_OF_MIB, 4 * SECTORS_OF_MIB)).equals(contents));
    await head.write(0, random.bytes(6 * MIB));

    const expected = Buffer.alloc(SIZE);
    contents.copy(expected, MIB);
    for (let i = 0; i < 100; i++) {
      const bytes = random.bytes((1 + random.below(20)) * 512);
      const sector = random.below(6 * SECTORS_OF_MIB);
      bytes.copy(expected, sector * 512);
      await frontEnd.disk().write(sector, bytes);
    }
    // Beside them: what is discarded shows the base again.
    const part = { firstSector: 8 * SECTORS_OF_MIB, sectors: 8 * SECTORS_OF_MIB };
    const load = { ...part, random, count: 300, depth: 16, indirect: true };
    (await MixedLoad.run(frontEnd.disk(), load)).model.copy(expected, 8 * MIB);
    frontEnd.close();
    assert.equal(await daemon.stop(), 0);
    await rig.cluster.rbd("snap", "protect", `${image}@base`);
    await daemon.restart();
    assert.deepEqual(daemon.linesLike(/ warn /), []);
    assert.ok((await (await connect(daemon, t)).disk().read(0, SIZE / 512)).equals(expected));
    assert.equal(await daemon.stop(), 0);
    const base = Buffer.alloc(SIZE);
    contents.copy(base, MIB);
    assert.ok((await rig.cluster.exported(`${image}@base`)).equals(base));

    // One that has the name later is another one.
    await rig.cluster.rbd("snap", "unprotect", `${image}@base`);
    await rig.cluster.rbd("snap", "rm", "--no-progress", `${image}@base`);
    await rig.cluster.rbd("snap", "create", `${image}@base`);
    await assert.rejects(daemon.restart(), /has changed .* since .*changes was made over it/);
  });

  test("is examined by doctor, which takes no lock", async () => {
    const image = await rig.makeImage();
    const examine = async (uri: string) => {
      const { stdout } = await toolbox(["doctor", "--json", `--image=${uri}`], { env: rig.env() });
      const { findings } = JSON.parse(stdout) as {
        findings: { check: string; status: string; text: string }[];
      };
      return new Map(findings.map(({ check, status, text }) => [check, `${status}: ${text}`]));
    };
    await using daemon = await rig.serve(image);
    assert.match(
      (await examine(rig.uri(image))).get("lock")!,
      /^problem: the client 127\.0\.0\.1:0\/\d+ has it open for writing$/,
    );
    assert.equal(await daemon.stop(), 0);
    const found = await examine(rig.uri(image));
    assert.match(found.get("cluster")!, /^ok: [0-9a-f-]{36} answers, and has a pool rbd$/);
    assert.match(found.get("caps")!, /^ok: client\.admin may fence off/);
    assert.match(found.get("image")!, /^ok: rbd\/disk\d+: 16 MiB in objects of 4 MiB$/);
    assert.match(found.get("features")!, /^ok: /);
    assert.equal(found.get("lock"), "ok: nobody has it open for writing");
    assert.equal(await rig.cluster.ceph("osd", "blocklist", "ls"), "");
    assert.match((await examine(rig.uri("rbd/none"))).get("image")!, /^problem: .*has no image none/);
  });

  test("is refused in one sentence that says what is wrong", async () => {
    const image = await rig.makeImage();
    const { confPath, monitor } = rig.cluster;
    const cases: [uri: string, reason: RegExp, args?: string[]][] = [
      [rig.uri("rbd/none"), /the pool rbd has no image none; make one: rbd create --size 10G rbd\/none$/],
      [rig.uri("rbd/apart2/none"), /the namespace apart2 of the pool rbd has no image none/],
      [rig.uri("nowhere/disk"), /the cluster has no pool nowhere$/],
      [rig.uri(`${image}@never`), /has no image disk\d+ with a snapshot never; rbd snap ls lists them$/],
      [
        `rbd:${image}?conf=/nowhere/ceph.conf`,
        /\/nowhere\/ceph\.conf can't be read: no such file or directory$/,
      ],
      [`rbd:${image}`, /names no monitor; give one, as in/],
      [rig.uri(image), /leave out --direct$/, ["--direct"]],
      [
        rig.uri(image),
        /others may write to it, .*rbd snap create rbd\/disk\d+@NAME/,
        ["--overlay=/nowhere/a"],
      ],
      [rig.uri(`${image}@never`), /with a snapshot never/, ["--overlay=/nowhere/a"]],
    ];
    const noConf = { CEPH_CONF: "/nowhere/ceph.conf" };
    for (const [uri, reason, args] of cases) rig.isRefused(uri, reason, args, noConf);
    // Without a file of configuration, as long as it knows a monitor.
    const address = encodeURIComponent(`[v2:${monitor}]`);
    await using daemon = await rig.serve(
      image,
      `--blk-file=rbd:${image}?conf=${confPath}&mon_host=${address}`,
    );
    assert.equal(await daemon.stop(), 0);
  });

  test("is refused where a library of Ceph's is missing, and nothing else asks for it", async () => {
    const image = await rig.makeImage();
    const libraries = mkdtempSync(join(tmpdir(), "no-ceph-"));
    try {
      for (const [name, debianPackage] of [
        ["librbd.so.1", "librbd1"],
        ["librados.so.2", "librados2"],
      ] as const) {
        writeFileSync(join(libraries, name), "");
        const env = { LD_LIBRARY_PATH: libraries };
        const reason = new RegExp(`${name} can't be loaded \\(.*\\); install Debian's ${debianPackage}$`);
        rig.isRefused(rig.uri(image), reason, [], env);
        const { status, stdout } = await toolbox(["doctor", "--json"], { env });
        assert.ok(status === 0 || stdout.includes('"problem"'), "doctor says nothing of it");
        assert.ok(!/librbd|librados/.test(stdout));
        rmSync(join(libraries, name));
      }
    } finally {
      rmSync(libraries, { recursive: true });
    }
  });
});
