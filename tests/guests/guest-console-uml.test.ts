// A user-mode-linux guest with vringd-console: its kernel's own driver, one port and several, and host sides that come and go.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { limitTests } from "../support/bounded-test.ts";
import { ConsolePeer, exchangeBytes, resizeTerminal } from "../support/console-peer.ts";
import { CONSOLE, type GuestProcess, startUmlGuest, umlUnavailable } from "../support/guest.ts";
import {
  ask,
  doAsTold,
  exchangeInGuest,
  hostSide,
  logIn,
  type Ports,
  startConsole,
  tell,
  untilHeard,
} from "../support/guest-console.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import type { Vringd } from "../support/vringd.ts";

const skip = skipWithout(umlUnavailable(), whyNoProgram("openssl"));

/**
 * The kernel prints on hvc0, too: all that it has to say once the driver is there, which Linux loses before. The guest's own console
 * comes last: that is init's.
 */
const LOG_ON_HVC0 = ["console=hvc0", "console=tty0"];
const PORT_BYTES = 64 << 20;
/** The kernel waits for each page of its console, and takes what comes in by 16 bytes. */
const CONSOLE_BYTES = 8 << 20;
/** On a machine that has much else to do. */
const EXCHANGE_MS = 500_000;
/** More than pipes and sockets between the guest and a peer that does not read have room for. */
const MORE_THAN_FITS = 2_000_000;
/** Without ends of lines, at each of which a terminal's driver waits for what it has printed. */
const say = (word: string) => `yes ${word} | tr '\\n' ' ' | head -c ${MORE_THAN_FITS}`;
const LIMIT_MS = 600_000;
limitTests(LIMIT_MS);

interface Rig {
  daemon: Vringd;
  guest: GuestProcess;
}

/** A guest that does as told, and ends well at the end of the test. */
async function withGuest(
  ports: Ports,
  kernelArguments: readonly string[],
  use: (rig: Rig) => Promise<void>,
  beforeBoot: (daemon: Vringd) => void = () => {},
): Promise<void> {
  await using daemon = await startConsole(ports);
  beforeBoot(daemon);
  await using guest = startUmlGuest({
    socketPath: daemon.socketPath,
    device: CONSOLE,
    script: doAsTold(),
    kernelArguments,
    timeoutMs: LIMIT_MS - 10_000,
  });
  await guest.waitForReport("READY", LIMIT_MS);
  await use({ daemon, guest });
  guest.send("end");
  const result = await guest.exit();
  assert.ok(result.ok, result.console);
}

describe("a user-mode-linux guest's console", { skip }, () => {
  for (const kind of ["unix", "pty"] as const) {
    test(`shows the kernel's log, lets in who knows the password, and runs what they type, by ${kind}`, async () => {
      let peer!: ConsolePeer;
      const come = (daemon: Vringd) => {
        const path = hostSide(daemon, "console");
        peer = kind === "unix" ? ConsolePeer.at(path) : ConsolePeer.onTerminal(path);
      };
      const use = async ({ guest, daemon }: Rig) => {
        using person = peer;
        await person.waitFor(/@guest report READY=yes\n/);
        guest.send("let_in");
        await logIn(person);
        person.say("tty; echo sum=$((6 * 7))\r");
        await person.waitFor(/^\/dev\/hvc0\n/m);
        await person.waitFor(/^sum=42\n/m);
        if (kind === "pty") await assertSizeFollowed(person, hostSide(daemon, "console"));
      };
      await withGuest({ console: kind }, LOG_ON_HVC0, use, come);
    });
  }

  for (const [what, ports, file, byteLength] of [
    ["the console", { console: "unix" }, "/dev/hvc0", CONSOLE_BYTES],
    ["a named port", { console: "file", data: "unix" }, "$(port data)", PORT_BYTES],
  ] as const) {
    test(`carries ${byteLength >> 20} MiB each way at once through ${what}`, async (t) => {
      await withGuest(ports, [], ({ daemon, guest }) => {
        const path = hostSide(daemon, "data" in ports ? "data" : "console");
        return assertExchange(t, guest, path, { file, byteLength });
      });
    });
  }

  test("has each port by its name", async () => {
    const names = ["console", "org.qemu.guest_agent.0", "hvc.second", "with blank"];
    const ports = Object.fromEntries(names.map((name) => [name, "unix"] as const));
    await withGuest(ports, [], async ({ daemon, guest }) => {
      const found = await ask(guest, "cat /sys/class/virtio-ports/*/name | sort | tr '\\n' ,");
      assert.equal(found, `${[...names].sort().join()},`);
      for (const name of names.slice(1)) {
        using peer = ConsolePeer.at(hostSide(daemon, name));
        if (name.startsWith("hvc")) await tell(guest, `echo "I am ${name}" > /dev/hvc1`);
        else await tell(guest, `echo "I am ${name}" > "$(port "${name}")"`);
        await peer.waitFor(new RegExp(`I am ${name}\n`));
      }
    });
  });

  test("goes on while nobody is at the host side, and serves who comes back", async () => {
    await withGuest({ console: "unix" }, LOG_ON_HVC0, async ({ daemon, guest }) => {
      const path = hostSide(daemon, "console");
      {
        using first = ConsolePeer.inProcess(path);
        await untilHeard(guest, first, "somebody");
        guest.send(`${say("much")} > /dev/hvc0; report WRITTEN yes`);
        await first.waitFor(/much much /);
        first.signal("SIGKILL");
        assert.equal(await guest.waitForReport("WRITTEN", EXCHANGE_MS), "yes");
      }
      await tell(guest, `${say("lost")} > /dev/hvc0`);
      using second = ConsolePeer.inProcess(path);
      await untilHeard(guest, second, "again");
      assert.doesNotMatch(second.heard, /lost/);
      guest.send("let_in");
      await logIn(second);
    });
  });

  test("goes on while whoever is at the host side does not read", async () => {
    await withGuest({ console: "unix" }, LOG_ON_HVC0, async ({ daemon, guest }) => {
      using peer = ConsolePeer.inProcess(hostSide(daemon, "console"));
      await untilHeard(guest, peer, "somebody");
      peer.signal("SIGSTOP");
      await tell(guest, `${say("much")} > /dev/hvc0`);
      peer.signal("SIGCONT");
      await untilHeard(guest, peer, "again");
      assert.ok(peer.heard.length < MORE_THAN_FITS, "what nobody read is dropped");
    });
  });

  test("loses its device to a daemon that is killed, goes on, and comes to no successor", async () => {
    await withGuest({ console: "unix", data: "unix" }, [], async ({ daemon, guest }) => {
      await tell(guest, "exec 7>/dev/hvc0; echo before >&7");
      await daemon.kill9();
      await tell(guest, 'until [ -z "$(ls /sys/class/virtio-ports)" ]; do sleep 0.1; done');
      assert.equal(await ask(guest, "echo after >&7 || echo not written"), "not written");
      await daemon.restart();
      using _peer = ConsolePeer.at(hostSide(daemon, "console"));
      assert.equal(await ask(guest, "echo on"), "on");
      assert.deepEqual(daemon.linesLike(/front-end connected/), []);
    });
  });

  test("has a port's writer wait while nobody is there, and loses nothing of what it writes after", async (t) => {
    await withGuest({ console: "file", data: "unix" }, [], async ({ daemon, guest }) => {
      const path = hostSide(daemon, "data");
      guest.send(`(${say("early")} > "$(port data)"; report EARLY yes) &`);
      await sleep(300);
      assert.doesNotMatch(guest.console, /EARLY=/);
      {
        using first = ConsolePeer.inProcess(path);
        await first.waitFor(/early early /);
        first.signal("SIGKILL");
      }
      // Neither does the guest's kernel wait.
      assert.equal(await ask(guest, "echo on"), "on");
      {
        using _second = ConsolePeer.inProcess(path);
        assert.equal(await guest.waitForReport("EARLY", EXCHANGE_MS), "yes");
      }
      await assertExchange(t, guest, path, { file: "$(port data)", byteLength: MORE_THAN_FITS });
    });
  });
});

async function assertSizeFollowed(person: ConsolePeer, terminal: string): Promise<void> {
  for (const size of [
    { rows: 50, cols: 132 },
    { rows: 7, cols: 300 },
  ]) {
    resizeTerminal(terminal, size);
    // The shell is told by its terminal's driver, which is told by ours: each answer may be the last one before that.
    const isTold = new RegExp(`^${size.rows} ${size.cols}\n`, "m");
    person.say(`until [ "$(stty size)" = "${size.rows} ${size.cols}" ]; do sleep 0.1; done; stty size\r`);
    await person.waitFor(isTold);
  }
}

async function assertExchange(
  t: TestContext,
  guest: GuestProcess,
  path: string,
  { file, byteLength }: { file: string; byteLength: number },
): Promise<void> {
  guest.send(exchangeInGuest(file, byteLength));
  const said = await guest.waitForReport("SAID", EXCHANGE_MS);
  const socket = connect(path);
  try {
    const start = performance.now();
    const { sent, heard } = await exchangeBytes(socket, byteLength);
    assert.equal(heard, said);
    assert.equal(await guest.waitForReport("HEARD", EXCHANGE_MS), sent);
    t.diagnostic(`${byteLength} bytes each way in ${Math.round(performance.now() - start)} ms`);
  } finally {
    socket.destroy();
  }
}
