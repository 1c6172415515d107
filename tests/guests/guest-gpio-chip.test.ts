// vringd-gpio with the lines of a chip: one that the kernel of a guest simulates, in which our programs run.
import assert from "node:assert/strict";
import { test } from "node:test";
import { qemuUnavailable } from "../support/guest.ts";
import { QEMU_INSIDE, runInside } from "../support/guest-inside.ts";
import { skipWithout } from "../support/skip.ts";

/** Node starts several times, on an emulated processor. */
const GUEST_MS_MAX = 1_500_000;

const MAKE_CHIP = `
mount -t configfs config /sys/kernel/config
cd /sys/kernel/config/gpio-sim
mkdir -p chip/bank
echo 8 > chip/bank/num_lines
for line in 0:led 1:button 4:taken; do
  mkdir chip/bank/line\${line%:*}
  echo \${line#*:} > chip/bank/line\${line%:*}/name
done
mkdir chip/bank/line4/hog
echo kernel > chip/bank/line4/hog/name
echo output-high > chip/bank/line4/hog/direction
echo 1 > chip/live
cd /run
`;

test("a guest has the lines of a host's chip: levels, edges, pauses, restarts, and what the host takes away", {
  skip: skipWithout(qemuUnavailable(QEMU_INSIDE)),
  timeout: GUEST_MS_MAX,
}, async (t) => {
  const { ok, console } = await runInside({
    modules: ["gpio_simulated"],
    script: MAKE_CHIP,
    program: "host-gpio",
    timeoutMs: GUEST_MS_MAX,
  });
  assert.ok(ok, console);
  const passed = Number(/^[#ℹ] pass (\d+)$/m.exec(console)?.[1]);
  t.diagnostic(`${passed} tests in the guest`);
  assert.ok(passed >= 9, console);
});
