// The host's half of vringd-input on event devices, which this machine may lack: it runs in a guest, on devices of uinput, with our
// own front-end as its guest (tests/support/evdev-in-guest.ts says what is looked at).
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { qemuUnavailable, runQemuGuest, TRIXIE_QEMU, withGenericKernel } from "../support/guest.ts";
import { makeProjectImage } from "../support/guest-project.ts";
import { skipWithout } from "../support/skip.ts";

const qemu = withGenericKernel(TRIXIE_QEMU);

/** Node on an emulated processor, on a machine that may have much else to do. */
const GUEST_MS_MAX = 1_100_000;
limitTests(1_150_000);

const WANTED = [
  "names, ids and ranges are the device's",
  "10000 events arrive, complete and in order, and others hear none",
  "lights and sounds come to the device, and nothing else of the status queue",
  "what the kernel drops is told, with the state after it",
  "a device that is unplugged has its keys released",
  "it comes back when the device does",
  "10000 events arrive, complete and in order, and others hear them too",
  "a device that somebody else has grabbed is refused",
  "all",
];

const script = `
mkdir -p project
mount -t ext4 -o ro "$DISK" project
mount -t tmpfs shm /tmp
node project/build/tests/evdev-in-guest.mjs /tmp > said 2> complaints || { cat said complaints; exit 1; }
report SECONDS "$(cut -d' ' -f1 complaints | tr '\\n' ' ')"
number=0
while read -r line; do number=$((number + 1)); report LINE$number "$line"; done < said
`;

test("an event device of a guest's kernel goes to our own front-end: grabbed and not, unplugged and back", {
  skip: skipWithout(qemuUnavailable(qemu)),
}, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const imagePath = join(directory, "project.img");
  makeProjectImage(imagePath, ["evdev-in-guest"]);
  const { ok, values, console } = await runQemuGuest({
    qemu,
    imagePath,
    script,
    programs: ["node"],
    modules: ["evdev", "uinput", "crc32c_generic"],
    memoryMiB: 1536,
    timeoutMs: GUEST_MS_MAX,
  });
  assert.ok(ok, console);
  t.diagnostic(`after seconds: ${values.get("SECONDS")}`);
  const said = WANTED.map((_, i) => values.get(`LINE${i + 1}`));
  assert.deepEqual(
    said,
    WANTED.map((what) => `so: ${what}`),
  );
});
