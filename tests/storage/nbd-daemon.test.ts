// vringd-blk on an NBD export: it is killed and loses nothing, the server is killed and it loses nothing, and what a wrong URI gets.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { BLK_CONFIG_BLK_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { IMAGE_SIZE, KillRun, noTotals, tellTotals } from "../support/kill-run.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const skip = skipWithout(nbdUnavailable());

/** A file, served one connection after the other: what a killed daemon had sent is done before its successor's turn. */
async function startServer(
  byteLength: number,
  ...args: string[]
): Promise<NbdServer & { imagePath: string }> {
  let imagePath = "";
  const server = await NbdServer.start({
    args: (directory) => {
      if (imagePath === "") {
        imagePath = join(directory, "disk.img");
        writeFileSync(imagePath, "");
        truncateSync(imagePath, byteLength);
      }
      return ["--filter=noparallel", "file", imagePath, "serialize=connections", ...args];
    },
  });
  return Object.assign(server, { imagePath });
}

const KILLS = 8;
const TIME_MS = 6000;
const SETUP = { eventIdx: true, engine: "io_uring", queues: 2, depth: 64 } as const;

describe("vringd-blk on an NBD export", { skip, concurrency: 2 }, () => {
  for (const packed of [false, true]) {
    const rings = `${packed ? "packed" : "split"} rings`;
    for (const what of ["the daemon", "the server"]) {
      test(`loses and repeats nothing when ${what} is killed under load, on ${rings}`, async (t) => {
        await using server = await startServer(IMAGE_SIZE);
        const totals = noTotals();
        const options = {
          ...SETUP,
          packed,
          imagePath: server.imagePath,
          args: [`--blk-file=${server.uri()}`],
          ...(what === "the server" && { victim: server }),
        };
        {
          await using run = await KillRun.start(options, tellSeed(t), totals);
          await run.run(KILLS, TIME_MS);
        }
        t.diagnostic(tellTotals(totals));
        assert.ok(totals.kills > 0 && totals.recorded > 0);
      });
    }
  }

  test("shows its size, block size and name, and says once what became of the server", async (t) => {
    await using server = await NbdServer.start({
      args: () => ["--filter=blocksize-policy", "memory", "64M", "blocksize-minimum=4096"],
    });
    const args = [`--blk-file=${server.uri("scratch")}`];
    await using daemon = await Vringd.start({ args });
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    t.after(() => frontEnd.close());
    assert.equal(frontEnd.capacity, 131_072);
    assert.equal(frontEnd.config.readUInt32LE(BLK_CONFIG_BLK_SIZE), 4096);
    assert.match(await frontEnd.disk().getId(), /^[0-9a-f]{20}$/);
    await server.kill9();
    await daemon.waitForLog(/ warn +NBD server lost; requests wait for it/);
    await server.restart();
    await daemon.waitForLog(/ info +NBD server back/);
    assert.equal(await daemon.stop(), 0);
  });

  test("keeps what a guest writes to a read-only export in an overlay", async (t) => {
    await using server = await NbdServer.start({ args: () => ["-r", "memory", "1M"] });
    const overlay = join(server.directory, "changes");
    await using daemon = await Vringd.start({ args: [`--blk-file=${server.uri()}`, `--overlay=${overlay}`] });
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    t.after(() => frontEnd.close());
    const bytes = tellSeed(t).bytes(4096);
    const disk = frontEnd.disk();
    await disk.write(8, bytes);
    assert.ok((await disk.read(8, 8)).equals(bytes));
    assert.ok((await disk.read(0, 8)).equals(Buffer.alloc(4096)));
  });

  test("ends at once when it is told to while there is no server", async () => {
    await using server = await startServer(IMAGE_SIZE);
    await using daemon = await Vringd.start({ args: [`--blk-file=${server.uri()}`] });
    await server.kill9();
    await daemon.waitForLog(/NBD server lost/);
    assert.equal(await daemon.stop(), 0);
  });
});

describe("vringd-blk can't start", { skip }, () => {
  const CASES: [uri: string, reason: RegExp][] = [
    ["nbd+unix:///?socket=/nowhere/nbd.sock", /no such file or directory$/],
    ["nbd+unix:///disk", /it must name a Unix socket, as in nbd\+unix:\/\/\/\?socket=PATH$/],
    ["nbd://127.0.0.1:1", /connection refused$/],
    [
      "nbds://127.0.0.1:1?tls-certificates=/nowhere",
      /can't read \/nowhere\/ca-cert.pem: no such file or directory$/,
    ],
  ];
  for (const [uri, reason] of CASES) {
    test(`on ${uri}`, () => {
      const line = [`--blk-file=${uri}`, "--socket-path=/tmp/vringd-never.sock"];
      const { status, stderr } = spawnSync(process.execPath, [PROGRAM, ...line], {
        encoding: "utf8",
        timeout: 20_000,
      });
      assert.equal(status, 1, stderr);
      const lines = stderr.trimEnd().split("\n");
      assert.equal(lines.length, 1, stderr);
      assert.match(lines[0]!, /^vringd-blk: can't /);
      assert.match(lines[0]!, reason);
    });
  }
});
