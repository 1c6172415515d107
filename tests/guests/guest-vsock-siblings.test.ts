// Two guests of one vringd-vsock, with Linux' own driver: what socat(1) of one says to that of the other.
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { type GuestProcess, QEMUS, qemuUnavailable, umlUnavailable } from "../support/guest.ts";
import {
  ANSWER_MS,
  ask,
  bytesToMove,
  LIMIT_MS,
  startVsockQemu,
  startVsockUml,
  VSOCK_PROGRAM,
} from "../support/guest-vsock.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

limitTests(LIMIT_MS);

const BYTES = bytesToMove(4 << 20);
const CONNECTIONS = 20;
const PROGRAMS = ["socat"];
const CIDS = [7, 8, 9] as const;

type Start = (daemon: Vringd, cid: number) => GuestProcess | Promise<GuestProcess>;

/** The first two have a group in common. */
function startDaemon(): Promise<Vringd> {
  const deviceArgs = (directory: string) =>
    CIDS.map((cid, i) => `--guest=${cid}:${directory}/vs${cid}:groups=${i < 2 ? "ours" : "others"}`);
  return Vringd.start({ program: VSOCK_PROGRAM, deviceArgs, args: ["--log-level=debug"] });
}

/** Calls until somebody listens. */
const patiently = (command: string) => `until ${command}; do sleep 0.2; done`;

function testSiblings(start: Start): void {
  test("carry bytes both ways, many connections, and ends of each side", async (t) => {
    await using daemon = await startDaemon();
    await using first = await start(daemon, CIDS[0]);
    await using second = await start(daemon, CIDS[1]);
    for (const guest of [first, second]) await guest.waitForReport("READY", LIMIT_MS);

    second.send(
      "socat -u VSOCK-LISTEN:1234 - | sha256sum | cut -c1-64 > heard && report HEARD $(cat heard) &",
    );
    const began = performance.now();
    const said = await ask(
      first,
      `head -c ${BYTES} /dev/urandom > r; ${patiently("socat -u FILE:r VSOCK-CONNECT:8:1234 2> /dev/null")}; sha256sum < r | cut -c1-64`,
    );
    assert.equal(await second.waitForReport("HEARD", ANSWER_MS), said);
    const seconds = (performance.now() - began) / 1000;
    t.diagnostic(`${(BYTES / 2 ** 20 / seconds).toFixed(1)} MiB/s from guest to guest`);

    // Whoever is asked answers at the end of what it is told: either side ends its own direction.
    second.send("socat VSOCK-LISTEN:1235,fork,backlog=100 SYSTEM:sha256sum &");
    const call = 'head -c 100000 r | socat -t 300 - VSOCK-CONNECT:8:1235 2> /dev/null | grep -q "$sum"';
    const answers = await ask(
      first,
      `sum=$(head -c 100000 r | sha256sum | cut -c1-64); ${patiently(call)}; ` +
        `for i in $(seq ${CONNECTIONS}); do ( ${patiently(call)}; echo yes > yes$i ) & done; wait; cat yes* | wc -l`,
    );
    assert.equal(answers.trim(), String(CONNECTIONS));

    // In the other direction too, and where nobody listens.
    first.send("socat -u VSOCK-LISTEN:1236 - > back && report BACK $(cat back) &");
    second.send(patiently("echo hello | socat -u - VSOCK-CONNECT:7:1236 2> /dev/null"));
    assert.equal(await first.waitForReport("BACK", ANSWER_MS), "hello");
    assert.match(await ask(first, "socat - VSOCK-CONNECT:8:4321 2>&1 < /dev/null"), /reset/i);

    // One that is killed takes its connections along, and nothing else.
    second.send("socat -u VSOCK-LISTEN:1237 - > /dev/null &");
    first.send(
      `${patiently("sleep 1000 | socat - VSOCK-CONNECT:8:1237 2> told")} & report CALLED yes; report TOLD "$(while ! grep -qi reset told; do sleep 0.2; done; echo reset)" &`,
    );
    await first.waitForReport("CALLED", ANSWER_MS);
    await daemon.waitForLog(/front-end connected +guestCid=8/);
    second.kill();
    assert.equal(await first.waitForReport("TOLD", ANSWER_MS), "reset");
    first.send("end");
    const { ok, console } = await first.exit();
    assert.ok(ok, console);
  });

  test("of different groups do not reach each other", async () => {
    await using daemon = await startDaemon();
    await using first = await start(daemon, CIDS[0]);
    await using third = await start(daemon, CIDS[2]);
    for (const guest of [first, third]) await guest.waitForReport("READY", LIMIT_MS);
    third.send("socat VSOCK-LISTEN:1234,fork PIPE &");
    assert.match(await ask(first, "sleep 3; socat - VSOCK-CONNECT:9:1234 2>&1 < /dev/null"), /reset/i);
    for (const guest of [first, third]) {
      guest.send("end");
      assert.ok((await guest.exit()).ok);
    }
    assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
  });
}

const socketOf = ({ directory }: Vringd, cid: number) => join(directory, `vs${cid}`);

const optionsOf = (daemon: Vringd, cid: number) => ({
  socketPath: socketOf(daemon, cid),
  directory: daemon.directory,
  programs: PROGRAMS,
  timeoutMs: LIMIT_MS - 10_000,
});

for (const qemu of QEMUS)
  describe(`guests of QEMU of ${qemu.owner}`, {
    skip: skipWithout(qemuUnavailable(qemu), whyNoProgram("socat")),
  }, () => {
    testSiblings((daemon, cid) => startVsockQemu(qemu, optionsOf(daemon, cid)));
  });

describe("guests of user-mode-linux", { skip: skipWithout(umlUnavailable(), whyNoProgram("socat")) }, () => {
  testSiblings((daemon, cid) => startVsockUml(optionsOf(daemon, cid)));
});
