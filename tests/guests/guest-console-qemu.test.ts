// A guest of QEMU's front-end for devices of any kind with vringd-console: a stock kernel, four ports, an agent, and what goes away.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CONSOLE_CONFIG_EMERG_WR, CONSOLE_CONFIG_SIZE } from "../../assembly/spec/virtio-console.ts";
import { limitTests } from "../support/bounded-test.ts";
import { ConsolePeer, exchangeBytes, resizeTerminal } from "../support/console-peer.ts";
import { CONSOLE, type QemuGuest, qemuUnavailable, SID_QEMU, startQemuGuest } from "../support/guest.ts";
import {
  ask,
  doAsTold,
  exchangeInGuest,
  hostSide,
  logIn,
  type Ports,
  queueCount,
  startConsole,
  tell,
  untilHeard,
} from "../support/guest-console.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import type { Vringd } from "../support/vringd.ts";

const skip = skipWithout(qemuUnavailable(SID_QEMU), whyNoProgram("qemu-ga", "openssl"));

const AGENT = "org.qemu.guest_agent.0";
const PORTS: Ports = { console: "unix", hvc1: "pty", data: "unix", [AGENT]: "unix" };
const QUEUE_SIZE = 64;
/** Of a PCI device's configuration space, and of the vendor's capabilities that virtio has there. */
const PCI_CAPABILITY_LIST = 0x34;
const PCI_CAP_ID_VNDR = 9;
const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
/** An emulated processor sums some MiB a second. */
const EXCHANGE_MIB = Number(process.env.VRINGD_CONSOLE_MIB ?? 64);
/** On a machine that has much else to do. */
const EXCHANGE_MS = 500_000;
const LIFE_MS_MAX = 1_800_000;
const BOOT_MS = 600_000;
const PAUSE_MS = 200;

/**
 * device_config FOLDER prints where a device's configuration space lies for the guest, as its capabilities say (virtio 1.4, 4.1.4): which
 * BAR that is differs from machine to machine.
 */
const DEVICE_CONFIG = `
number() { od -An -j "$1" -N "$2" -tu"$2" "$folder/config" | tr -d ' '; }
device_config() {
  folder=$1
  capability=$(number ${PCI_CAPABILITY_LIST} 1)
  until [ "$(number $capability 1)" = ${PCI_CAP_ID_VNDR} ] && [ "$(number $((capability + 3)) 1)" = ${VIRTIO_PCI_CAP_DEVICE_CFG} ]; do
    capability=$(number $((capability + 1)) 1)
  done
  bar=$(sed -n $(($(number $((capability + 4)) 1) + 1))p "$folder/resource" | cut -d' ' -f1)
  echo $((bar + $(number $((capability + 8)) 4)))
}
`;
limitTests(600_000);

describe("a guest's console under QEMU's front-end for devices of any kind", { skip }, () => {
  let daemon: Vringd;
  let guest: QemuGuest;
  let person: ConsolePeer;

  before(async () => {
    daemon = await startConsole(PORTS);
    person = ConsolePeer.at(hostSide(daemon, "console"));
    guest = await startGuest(daemon, ["console=hvc0", "console=ttyS0", "loglevel=7"], ["qemu-ga"]);
  });

  after(async () => {
    person?.[Symbol.dispose]();
    await guest?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  test("shows the boot log, and lets in who knows the password", async () => {
    await person.waitFor(/Run \/init as init process/);
    guest.send("let_in");
    await logIn(person);
    person.say("tty; echo sum=$((6 * 7))\r");
    await person.waitFor(/^\/dev\/hvc0\n/m);
    await person.waitFor(/^sum=42\n/m);
  });

  test("has each port by its name", async () => {
    const names = await ask(guest, "cat /sys/class/virtio-ports/*/name | sort | tr '\\n' ,");
    assert.equal(names, `${Object.keys(PORTS).sort().join()},`);
    using terminal = ConsolePeer.onTerminal(hostSide(daemon, "hvc1"));
    await tell(
      guest,
      "exec 6<>/dev/hvc1; (until [ -e heard ]; do echo second >&6; sleep 0.1; done) & echoes=$!",
    );
    await terminal.waitFor(/second\n/);
    await tell(guest, "touch heard; wait $echoes; rm heard");
  });

  test("follows the size of each console's terminal", async () => {
    const path = hostSide(daemon, "hvc1");
    using _terminal = ConsolePeer.onTerminal(path);
    for (const size of [
      { rows: 50, cols: 132 },
      { rows: 7, cols: 300 },
    ]) {
      resizeTerminal(path, size);
      const wanted = `${size.rows} ${size.cols}`;
      await tell(guest, `until [ "$(stty size <&6)" = "${wanted}" ]; do sleep 0.1; done`);
    }
  });

  test(`carries ${EXCHANGE_MIB} MiB each way at once, through pauses of the guest and of the host's reader`, async (t) => {
    guest.send(exchangeInGuest("$(port data)", EXCHANGE_MIB << 20));
    const said = await guest.waitForReport("SAID", EXCHANGE_MS);
    const socket = connect(hostSide(daemon, "data"));
    t.after(() => socket.destroy());
    const start = performance.now();
    const exchange = exchangeBytes(socket, EXCHANGE_MIB << 20);
    for (let i = 0; i < 3; i++) {
      await sleep(PAUSE_MS);
      socket.pause();
      await sleep(PAUSE_MS);
      await guest.qmp("stop");
      await guest.qmp("cont");
      socket.resume();
    }
    const { sent, heard } = await exchange;
    assert.equal(heard, said);
    assert.equal(await guest.waitForReport("HEARD", EXCHANGE_MS), sent);
    t.diagnostic(`in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  });

  test("has an agent that answers, also to a host side that comes after one that was killed", async () => {
    await tell(guest, `qemu-ga -d -m virtio-serial -p "$(port ${AGENT})" -t /run -f /run/agent.pid`);
    const path = hostSide(daemon, AGENT);
    {
      using first = ConsolePeer.inProcess(path);
      assert.equal(await askAgent(first, "guest-sync", { id: 1234 }), 1234);
      first.signal("SIGKILL");
    }
    using second = ConsolePeer.inProcess(path);
    assert.equal(await askAgent(second, "guest-sync", { id: 4321 }), 4321);
    const command = { path: "/bin/uname", arg: ["-r"], "capture-output": true };
    const process = await askAgent(second, "guest-exec", command);
    const ended = async () => (await askAgent(second, "guest-exec-status", process as object)) as ExecStatus;
    let status = await ended();
    while (!status.exited) status = await ended();
    const release = await ask(guest, "uname -r");
    assert.equal(Buffer.from(status["out-data"]!, "base64").toString(), `${release}\n`);
  });

  test("goes on while nobody is at its console, and serves who comes back", async () => {
    const path = hostSide(daemon, "console");
    person[Symbol.dispose]();
    {
      using first = ConsolePeer.inProcess(path);
      await untilHeard(guest, first, "somebody");
      // Without ends of lines, at each of which a terminal's driver waits for what it has printed.
      guest.send("yes much | tr '\\n' ' ' | head -c 2000000 > /dev/hvc0; report WRITTEN yes");
      await first.waitFor(/much much /);
      first.signal("SIGKILL");
      await guest.waitForReport("WRITTEN", EXCHANGE_MS);
    }
    person = ConsolePeer.at(path);
    await untilHeard(guest, person, "again");
    assert.match(await ask(guest, "echo on"), /on/);
  });

  test("prints by the register for emergencies while no driver has it, and serves the next one from the beginning", async () => {
    const driver = "/sys/bus/pci/drivers/virtio-pci";
    await tell(guest, `pci=$(cd ${driver} && echo 0*); echo $pci > ${driver}/unbind`);
    await tell(guest, `space=$(device_config /sys/bus/pci/devices/$pci)`);
    for (const character of Buffer.from("help!\n"))
      await tell(guest, `busybox devmem $((space + ${CONSOLE_CONFIG_EMERG_WR})) 8 ${character}`);
    await person.waitFor(/help!\n/);
    await tell(guest, `echo $pci > ${driver}/bind`);
    // Not at hvc0, which whoever logs in hangs up first.
    using peer = ConsolePeer.at(hostSide(daemon, "data"));
    await tell(guest, `until [ -c "$(port data)" ]; do sleep 0.1; done; echo "once more" > "$(port data)"`);
    await peer.waitFor(/once more\n/);
    const found = await ask(guest, "cat /sys/class/virtio-ports/*/name | sort | tr '\\n' ,");
    assert.equal(found, `${Object.keys(PORTS).sort().join()},`);
  });
});

test("a guest goes on without a daemon that was killed, and comes to no successor", { skip }, async () => {
  await using daemon = await startConsole(PORTS);
  // Its kernel's log is not on hvc0: whatever is printed there from then on waits in the kernel for ever.
  await using guest = await startGuest(daemon, ["console=ttyS0"]);
  await tell(guest, "exec 7>/dev/hvc0; echo before >&7");
  await daemon.kill9();
  await guest.waitFor(/ring restore failed/, BOOT_MS);
  assert.equal(await ask(guest, "echo still here"), "still here");
  await daemon.restart();
  using _peer = ConsolePeer.at(hostSide(daemon, "console"));
  assert.equal(await ask(guest, "echo and after that"), "and after that");
  assert.deepEqual(daemon.linesLike(/front-end connected/), []);
});

async function startGuest(
  { socketPath }: Vringd,
  kernelArguments: readonly string[],
  programs: readonly string[] = [],
): Promise<QemuGuest> {
  const guest = await startQemuGuest({
    qemu: SID_QEMU,
    socketPath,
    device: CONSOLE,
    testDevice: { queues: queueCount(PORTS), queueSize: QUEUE_SIZE, configSize: CONSOLE_CONFIG_SIZE },
    script: DEVICE_CONFIG + doAsTold(),
    programs,
    kernelArguments,
    timeoutMs: LIFE_MS_MAX,
  });
  await guest.waitForReport("READY", BOOT_MS);
  return guest;
}

interface ExecStatus {
  exited: boolean;
  "out-data"?: string;
}

/** By QEMU's protocol for agents: a line of JSON each way. */
async function askAgent(peer: ConsolePeer, execute: string, args: object): Promise<unknown> {
  peer.say(`${JSON.stringify({ execute, arguments: args })}\n`);
  const line = await peer.waitFor(/^\{.*\}\n/m);
  const answer = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
  if (answer.error) throw new Error(answer.error.desc);
  return answer.return;
}
