// A QEMU guest with its disk on vringd, and that on an NBD server: a file system, an fsync that is a flush, a server that is killed.
import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { assertSound } from "../support/file-system.ts";
import {
  ext4RoundTrip,
  qemuUnavailable,
  runQemuGuest,
  startQemuGuest,
  verifiedLoad,
} from "../support/guest.ts";
import { NbdServer, type NbdServerOptions, nbdUnavailable } from "../support/nbd-server.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

/** On a machine that has much else to do. */
limitTests(600_000);

const skip = skipWithout(qemuUnavailable(), nbdUnavailable(), whyNoProgram("fio"));
const DISK_SIZE = 256 << 20;

const imageOf = (directory: string) => join(directory, "disk.img");

async function start(program: "nbdkit" | "qemu-nbd"): Promise<NbdServer> {
  let isMade = false;
  const options: NbdServerOptions = {
    program,
    args: (directory) => {
      if (!isMade) {
        writeFileSync(imageOf(directory), "");
        truncateSync(imageOf(directory), DISK_SIZE);
        isMade = true;
      }
      return program === "nbdkit"
        ? ["file", imageOf(directory)]
        : ["-f", "raw", "--discard=unmap", imageOf(directory)];
    },
  };
  return NbdServer.start(options);
}

describe("a QEMU guest on an NBD export", { skip }, () => {
  for (const program of ["nbdkit", "qemu-nbd"] as const) {
    test(`keeps a file system on ${program}`, async () => {
      await using server = await start(program);
      await using daemon = await Vringd.start({ args: [`--blk-file=${server.uri()}`] });
      const { socketPath } = daemon;
      const result = await runQemuGuest({ socketPath, script: ext4RoundTrip, queues: 2 });
      assert.ok(result.ok, result.console);
      assert.equal(await daemon.stop(), 0);
      assertSound(imageOf(server.directory));
    });
  }

  test("notices a pause, nothing else, when the server and then the daemon is killed under load", async () => {
    await using server = await start("nbdkit");
    await using daemon = await Vringd.start({ args: [`--blk-file=${server.uri()}`] });
    await using guest = await startQemuGuest({
      socketPath: daemon.socketPath,
      script: verifiedLoad,
      programs: ["fio"],
      queues: 2,
      reconnectSeconds: 1,
    });
    assert.equal(await guest.waitForReport("BOOT"), "first");
    for (const victim of [server, daemon, server]) {
      await guest.waitForReport("ROUND");
      await victim.kill9();
      await victim.restart();
    }
    await guest.waitForReport("ROUND");
    guest.send("end");
    const result = await guest.exit();
    assert.ok(result.ok, result.console);
    assert.equal(await daemon.stop(), 0);
    assertSound(imageOf(server.directory));
  });
});
