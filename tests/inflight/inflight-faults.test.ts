// Inflight regions that the kernel has no room for: what was there stays, and nothing is left over.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { SPLIT_USED_IDX } from "../../assembly/spec/inflight.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { close } from "../../host/linux/libc.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { skipWithout } from "../support/skip.ts";
import { failing, whyNoStrace } from "../support/strace.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const ATTEMPTS = 20;

describe("an inflight region that the kernel refuses", {
  skip: skipWithout(whyNoStrace()),
  timeout: 60_000,
}, () => {
  let daemon: Vringd;
  before(async () => {
    daemon = await Vringd.start({ byteLength: 8 << 20 });
  });
  after(() => daemon?.[Symbol.asyncDispose]());
  // A front-end that has gone is served to its end beside the next one.
  beforeEach(() => until(() => !daemon.isMapped(), "nothing is left of the test before"));

  const openDescriptors = () => daemon.procEntries("fd").length;

  for (const [call, error] of [
    ["memfd_create", "ENOMEM"],
    ["ftruncate", "ENOSPC"],
    ["fcntl", "EPERM"],
  ] as const) {
    test(`isn't made, and leaves no descriptor behind: ${call} fails`, async () => {
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const before = openDescriptors();
      await failing(daemon.pid, call, error, async () => {
        for (let i = 0; i < ATTEMPTS; i++) {
          const { description, fd } = await frontEnd.getInflightFd(1, 128);
          assert.equal(fd, undefined);
          assert.equal(description.mmapSize, 0n);
        }
      });
      assert.equal(openDescriptors(), before);
      await frontEnd.disk().read(0, 1);
      const { fd } = await frontEnd.getInflightFd(1, 128);
      close(fd!);
    });
  }

  test("isn't set, and leaves the one before, and no mapping behind", async () => {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, { inflight: true });
    const { bytes, description } = frontEnd.inflight!;
    const fd = createMemfd("another", description.mmapSize);
    await frontEnd.disk().write(0, Buffer.alloc(512, 1));
    const usedIdx = bytes.readUInt16LE(SPLIT_USED_IDX);
    const [fds, ours] = [openDescriptors(), daemon.proc("maps").split("vringd-inflight").length];
    await failing(daemon.pid, "mremap", "ENOMEM", async () => {
      for (let i = 0; i < ATTEMPTS; i++) assert.notEqual(await frontEnd.setInflightFd(description, fd), 0n);
    });
    close(fd);
    assert.equal(openDescriptors(), fds);
    assert.equal(daemon.proc("maps").split("vringd-inflight").length, ours);
    assert.ok(!daemon.isMapped("another"));
    await frontEnd.disk().write(0, Buffer.alloc(512, 1));
    assert.equal(bytes.readUInt16LE(SPLIT_USED_IDX), usedIdx + 1);
  });
});
