// vringd-vsock by a host's own AF_VSOCK: inside a guest, whose kernel has vsock_loopback. What is done there is in
// tests/support/vsock-in-guest.ts.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { qemuUnavailable, startQemuGuest, TRIXIE_QEMU } from "../support/guest.ts";
import { makeProjectImage } from "../support/guest-project.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";

const IN_GUEST = "vsock-in-guest";

/** On a machine that has much else to do, whose processor is emulated. */
const STEP_MS = 600_000;
const LIFE_MS_MAX = 1_800_000;
limitTests(1_200_000);

const SCRIPT = `
mkdir -p project
mount -t ext4 -o ro /dev/vda project
VRINGD_TEST_START_MS=600000 node project/build/tests/${IN_GUEST}.mjs 2>&1
`;

describe("AF_VSOCK of a host", {
  skip: skipWithout(qemuUnavailable(TRIXIE_QEMU), whyNoProgram("socat")),
}, () => {
  test("carries a guest's calls to its programs, and theirs to the guest", async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-vsock-host-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const imagePath = join(directory, "project.img");
    makeProjectImage(imagePath, [IN_GUEST]);
    await using guest = await startQemuGuest({
      qemu: TRIXIE_QEMU,
      imagePath,
      modules: ["crc32c_generic"],
      unloadedModules: ["vsock", "vmw_vsock_virtio_transport_common", "vsock_loopback"],
      memoryMiB: 1536,
      programs: ["node", "socat"],
      script: SCRIPT,
      timeoutMs: LIFE_MS_MAX,
    });
    const told = (key: string) => guest.waitForReport(key, STEP_MS);
    assert.equal(
      await told("ABSENT"),
      "vringd-vsock: --forward-cid=1 needs AF_VSOCK, which this machine has not: modprobe vhost_vsock, or vsock_loopback",
    );
    assert.equal(
      await told("NO_LOOPBACK"),
      "vringd-vsock: --forward-cid=1 is this machine itself, which nobody can reach by AF_VSOCK here: modprobe vsock_loopback",
    );
    await told("STARTED");
    assert.equal(
      await told("TAKEN"),
      "vringd-vsock: can't listen on port 9001 of AF_VSOCK for --forward-listen: address already in use",
    );
    for (const part of ["TO_HOST", "REFUSED", "FROM_HOST"]) assert.equal(await told(part), "as told");
    const { ok, values, console } = await guest.exit();
    assert.ok(ok && values.has("DONE"), console);
  });
});
