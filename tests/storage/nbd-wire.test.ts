// The socket to an NBD server: when it says that it no longer reads the memory of a write.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Wire } from "../../host/storage/nbd/wire.ts";
import { until } from "../support/until.ts";

/** More than a socket holds. */
const PAYLOAD = new Uint8Array(8 << 20);
const HEADER = new Uint8Array(28);
const SETTLE_MS = 50;

describe("a write", () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const path = join(directory, "nbd.sock");
  let server: Server;
  let isRead = true;

  before(async () => {
    server = createServer((socket) => {
      socket.on("error", () => {});
      if (isRead) socket.resume();
      else socket.pause();
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
  });
  after(() => {
    server.close();
    rmSync(directory, { recursive: true });
  });

  test("is sent once the other side has taken it", async () => {
    const wire = await Wire.connect({ path }, true, new AbortController().signal);
    let isSent = false;
    wire.write([HEADER, PAYLOAD], () => {
      isSent = true;
    });
    await until(() => isSent, "it is sent");
    wire.destroy();
  });

  test("that the end of the connection cuts off is never said to be sent", async () => {
    isRead = false;
    const wire = await Wire.connect({ path }, true, new AbortController().signal);
    let isSent = false;
    wire.write([HEADER, PAYLOAD], () => {
      isSent = true;
    });
    await sleep(SETTLE_MS);
    wire.destroy();
    await sleep(SETTLE_MS);
    assert.equal(isSent, false);
  });
});
