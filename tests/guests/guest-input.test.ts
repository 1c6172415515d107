// vringd-input under QEMU's own front-end and Linux' own driver: what evtest shows of devices and of their events, lights, pauses.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BTN_LEFT, EV_ABS, EV_KEY, EV_LED, EV_SYN, LED_CAPSL } from "../../host/linux/input-event-codes.ts";
import { limitTests } from "../support/bounded-test.ts";
import {
  type QemuGuest,
  qemuUnavailable,
  SID_QEMU,
  startQemuGuest,
  TRIXIE_QEMU,
  withGenericKernel,
} from "../support/guest.ts";
import { Evtest, InputDaemon } from "../support/input-devices.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { until } from "../support/until.ts";

const EVENTS = 10_000;
/** Of one write: Linux keeps 64 events at the least for each reader, who may be late. */
const BATCH = 48;
const TABLET = { name: "A tablet of a test", serial: "T-0123" };
const KEYBOARD = { name: "vringd keyboard" };
const AXIS_MAX = 32767;
const TEXT = "Hello, World: 42!";

/** On a machine that has much else to do. */
const BOOT_MS = 600_000;
const STEP_MS = 300_000;
const LIFE_MS = 1_800_000;
limitTests(900_000);

/** evtest on each device, whose terminal is a file of the host's; then what the test says, until "end". */
const script = `
event_of() {
  for entry in /sys/class/input/event*; do
    if [ "$(cat "$entry/device/name")" = "$1" ]; then echo "/dev/input/\${entry##*/}"; fi
  done
}
until [ -n "$(event_of '${TABLET.name}')" ] && [ -n "$(event_of '${KEYBOARD.name}')" ]; do sleep 0.1; done
for line in /dev/ttyS1 /dev/ttyS2; do stty -F $line raw -echo; done
evtest "$(event_of '${TABLET.name}')" > /dev/ttyS1 2>&1 &
evtest "$(event_of '${KEYBOARD.name}')" > /dev/ttyS2 2>&1 &
keyboard=$(event_of '${KEYBOARD.name}')
# Two of struct input_event by one write: 16 bytes of time, type, code, value; and a SYN_REPORT, which is all zeroes.
lamp() {
  { head -c 16 /dev/zero; printf "\\021\\000\\00$1\\000\\00$2\\000\\000\\000"; head -c 24 /dev/zero; } > event
  cat event > "$keyboard"
}
report READY yes
while read -r line && [ "$line" != end ]; do eval "$line"; done
`;

for (const qemu of [TRIXIE_QEMU, SID_QEMU].map(withGenericKernel)) {
  describe(`input devices of a guest of QEMU of ${qemu.owner}`, {
    skip: skipWithout(qemuUnavailable(qemu), whyNoProgram("evtest", "mkfifo")),
  }, () => {
    let directory: string;
    let tablet: InputDaemon;
    let keyboard: InputDaemon;
    let guest: QemuGuest;
    let shown: { tablet: Evtest; keyboard: Evtest };
    /** How many events of the tablet's have been looked at. */
    let seen = 0;

    before(async () => {
      directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
      const [disk, ...terminals] = ["disk", "tablet", "keyboard"].map((name) => join(directory, name));
      for (const path of terminals) writeFileSync(path, "");
      writeFileSync(disk!, Buffer.alloc(1 << 20));
      shown = { tablet: new Evtest(terminals[0]!), keyboard: new Evtest(terminals[1]!) };
      tablet = await InputDaemon.start("--tablet", `--name=${TABLET.name}`, `--serial=${TABLET.serial}`);
      keyboard = await InputDaemon.start("--keyboard");
      guest = await startQemuGuest({
        qemu,
        imagePath: disk!,
        script,
        programs: ["evtest"],
        modules: ["virtio_input", "evdev"],
        extraArgs: [
          ...terminals.flatMap((path) => ["-serial", `file:${path}`]),
          ...tablet.frontEnd("tablet"),
          ...keyboard.frontEnd("keyboard"),
        ],
        timeoutMs: LIFE_MS,
      });
      await guest.waitForReport("READY", BOOT_MS);
    });

    after(async () => {
      await guest?.[Symbol.asyncDispose]();
      for (const daemon of [tablet, keyboard]) await daemon?.[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    });

    const heard = (events: number) =>
      until(() => shown.tablet.events.length >= seen + events, `${events} events are shown`, STEP_MS);

    async function exchange(events: readonly (readonly number[])[]): Promise<void> {
      tablet.send(events);
      await heard(events.length);
      assert.deepEqual(shown.tablet.events.slice(seen), events);
      seen += events.length;
    }

    test("have their names, ids and ranges", async (t) => {
      await until(() => shown.keyboard.head.includes("Properties:"), "the keyboard is shown", STEP_MS);
      await until(() => shown.tablet.head.includes("Properties:"), "the tablet is shown", STEP_MS);
      for (const each of [tablet, keyboard])
        t.diagnostic(each.daemon.linesLike(/ ring started /)[0]!.replace(/^.*ring started +/, ""));
      const { head } = shown.tablet;
      assert.match(head, /^Input device ID: bus 0x6 vendor 0x0 product 0x3 version 0x1$/m);
      assert.match(head, /^Input device name: "A tablet of a test"$/m);
      assert.match(head, / Event code 272 \(BTN_LEFT\)$/m);
      assert.match(head, / Event code 8 \(REL_WHEEL\)$/m);
      for (const axis of ["0 (ABS_X)", "1 (ABS_Y)"]) {
        const [, fields = ""] = head.split(`Event code ${axis}\n`);
        assert.match(fields, new RegExp(`^ +Value +0\n +Min +0\n +Max +${AXIS_MAX}\n`), axis);
      }
      assert.match(head, /Properties:\n +Property type 0 \(INPUT_PROP_POINTER\)/);
      assert.match(shown.keyboard.head, /^Input device name: "vringd keyboard"$/m);
      assert.match(shown.keyboard.head, / Event code 30 \(KEY_A\)$/m);
      assert.match(shown.keyboard.head, / Event code 1 \(LED_CAPSL\) state 0$/m);
      assert.match(shown.keyboard.head, /^Key repeat handling:$/m);
      guest.send('report UNIQ "$(cat /sys/class/input/*/device/uniq | sort -u | tr "\\n" " ")"');
      assert.match(await guest.waitForReport("UNIQ", STEP_MS), new RegExp(TABLET.serial));
    });

    test(`get ${EVENTS} events, complete and in order`, async (t) => {
      const start = performance.now();
      let groups = 0;
      for (let sent = 0; sent < EVENTS; ) {
        const events: number[][] = [];
        while (events.length < BATCH) {
          const number = ++groups;
          events.push([EV_ABS, 0, (number * 7) % AXIS_MAX], [EV_ABS, 1, (number * 5) % AXIS_MAX]);
          if (number % 4 === 0) events.push([EV_KEY, BTN_LEFT, (number >> 2) & 1]);
          events.push([EV_SYN, 0, 0]);
        }
        await exchange(events);
        sent += events.length;
      }
      // What follows begins with the button up.
      if ((groups >> 2) & 1)
        await exchange([
          [EV_KEY, BTN_LEFT, 0],
          [EV_SYN, 0, 0],
        ]);
      t.diagnostic(`${seen} events in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    });

    test("get what came while the guest was paused", async () => {
      await guest.qmp("stop");
      const events = [
        [EV_ABS, 0, 11],
        [EV_SYN, 0, 0],
        [EV_ABS, 0, 12],
        [EV_ABS, 1, 13],
        [EV_SYN, 0, 0],
      ];
      tablet.send(events);
      await guest.qmp("cont");
      await heard(events.length);
      assert.deepEqual(shown.tablet.events.slice(seen), events);
      seen += events.length;
    });

    test("get what is typed on the host", async () => {
      await keyboard.command("type", TEXT);
      const keys = () => shown.keyboard.events.filter(([type, , value]) => type === EV_KEY && value !== 2);
      const shifted = [...TEXT].filter((character) => /[A-Z:!]/.test(character)).length;
      await until(() => keys().length >= 2 * (TEXT.length + shifted), "all keys are shown", STEP_MS);
      assert.deepEqual(keys().slice(0, 6), [
        [EV_KEY, 42, 1],
        [EV_KEY, 35, 1],
        [EV_KEY, 35, 0],
        [EV_KEY, 42, 0],
        [EV_KEY, 18, 1],
        [EV_KEY, 18, 0],
      ]);
      assert.equal(keys().length, 2 * (TEXT.length + shifted));
    });

    test("turn their lights on and off", async () => {
      for (const [value, isOn] of [
        [1, true],
        [0, false],
      ] as const) {
        guest.send(`lamp ${LED_CAPSL} ${value}`);
        const isTold = ([type, code, told]: number[]) =>
          type === EV_LED && code === LED_CAPSL && told === value;
        await until(() => shown.keyboard.events.some(isTold), "the guest's light is set", STEP_MS);
        let lights = await keyboard.command("leds");
        for (let tries = 0; lights.LED_CAPSL !== isOn && tries < 500; tries++) {
          await sleep(20);
          lights = await keyboard.command("leds");
        }
        assert.deepEqual(lights, { LED_NUML: false, LED_CAPSL: isOn, LED_SCROLLL: false });
      }
      const lights = shown.keyboard.events.filter(([type]) => type === EV_LED);
      assert.deepEqual(lights, [
        [EV_LED, LED_CAPSL, 1],
        [EV_LED, LED_CAPSL, 0],
      ]);
    });

    test("have no key down for the next driver", async () => {
      await exchange([
        [EV_KEY, BTN_LEFT, 1],
        [EV_SYN, 0, 0],
      ]);
      const driver = "/sys/bus/virtio/drivers/virtio_input";
      // Both devices', of which evtest on the old ones ends.
      guest.send(`for d in ${driver}/virtio*; do echo "\${d##*/}"; done > bound`);
      guest.send(`for d in $(cat bound); do echo $d > ${driver}/unbind; done; wait`);
      guest.send(`for d in $(cat bound); do echo $d > ${driver}/bind; done`);
      guest.send(`until [ -n "$(event_of '${TABLET.name}')" ]; do sleep 0.1; done`);
      guest.send(`evtest --query "$(event_of '${TABLET.name}')" EV_KEY BTN_LEFT; report DOWN $?`);
      assert.equal(await guest.waitForReport("DOWN", STEP_MS), "0");
    });

    test("leave a guest that ends well", async () => {
      guest.send("end");
      const { ok, console } = await guest.exit();
      assert.ok(ok, console);
      for (const { daemon } of [tablet, keyboard]) assert.deepEqual(daemon.linesLike(/warn|error/), []);
    });
  });
}
