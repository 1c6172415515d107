// `npm run bench -- --grid input`: how long an event takes from the write on the host to the read of a guest's program, which sends it
// back by a port of QEMU's; what such a port takes for the same bytes there and back; and what the daemon takes without a guest.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EV_REL, EV_SYN, REL_X } from "../../host/linux/input-event-codes.ts";
import {
  qemuUnavailable,
  SID_QEMU,
  startQemuGuest,
  TRIXIE_QEMU,
  withGenericKernel,
} from "../support/guest.ts";
import { InputDaemon } from "../support/input-devices.ts";
import { connectInput, InputDriver } from "../support/input-driver.ts";
import { describeMachine } from "./machine.ts";

const EVENTS_A_ROUND = 400;
const WARM_UP = 50;
const BOOT_MS = 600_000;
/** Only an answer that never comes takes so long. */
const ANSWER_MS = 60_000;
/** A movement and its report, 24 bytes each. */
const ANSWER_BYTES = 48;

/**
 * Linux gives an event to those who have the device open by then: READY comes after that. A port of which the host's end is not
 * connected yet is at its end for a reader, so cat starts again; its descriptor stays, as Linux drops what a closed port has.
 */
const script = `
event() {
  for entry in /sys/class/input/event*; do
    if [ "$(cat "$entry/device/name")" = "vringd mouse" ]; then echo "/dev/input/\${entry##*/}"; fi
  done
}
port() { ls -d /dev/vport*p$1 2> /dev/null; }
until [ -n "$(event)" ] && [ -n "$(port 1)" ] && [ -n "$(port 2)" ]; do sleep 0.1; done
exec 3< "$(event)" 4> "$(port 1)" 5<> "$(port 2)"
cat <&3 >&4 &
while cat <&5 >&5; do sleep 0.1; done &
report READY yes
read -r line
`;

export async function measureInput({ rounds }: { rounds: number }): Promise<void> {
  console.log(JSON.stringify(describeMachine()));
  const count = rounds * EVENTS_A_ROUND;
  await using daemon = await InputDaemon.start("--mouse");
  tell("from the write to the used buffer, at our own front-end", await withoutGuest(daemon, count));
  for (const qemu of [TRIXIE_QEMU, SID_QEMU].map(withGenericKernel)) {
    const lack = qemuUnavailable(qemu);
    if (lack === undefined) await inGuest(qemu, daemon, count);
    else console.log(`left out: ${lack}`);
  }
}

async function withoutGuest(daemon: InputDaemon, count: number): Promise<number[]> {
  await using frontEnd = await connectInput(daemon.daemon.socketPath);
  const driver = new InputDriver(frontEnd);
  const queue = frontEnd.queues[0]!;
  // Awaited here: the front-end goes when this function ends.
  const taken = await repeat(count, async (number) => {
    await driver.hasHeard();
    daemon.send(movement(number));
    await queue.wait(BOOT_MS);
    const end = performance.now();
    await driver.group();
    return end;
  });
  return taken;
}

async function inGuest(qemu: typeof TRIXIE_QEMU, daemon: InputDaemon, count: number): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-bench-"));
  const [imagePath, events, echo] = ["disk", "events", "echo"].map((name) => join(directory, name));
  try {
    writeFileSync(imagePath!, Buffer.alloc(1 << 20));
    await using guest = await startQemuGuest({
      qemu,
      imagePath: imagePath!,
      script,
      modules: ["virtio_input", "evdev", "virtio_console"],
      extraArgs: [
        ...["-device", "virtio-serial-pci"],
        ...["-chardev", `socket,id=events,path=${events},server=on,wait=off`],
        ...["-device", "virtserialport,chardev=events,nr=1"],
        ...["-chardev", `socket,id=echo,path=${echo},server=on,wait=off`],
        ...["-device", "virtserialport,chardev=echo,nr=2"],
        ...daemon.frontEnd("mouse"),
      ],
      timeoutMs: 2 * BOOT_MS,
    });
    await guest.waitForReport("READY", BOOT_MS);
    await throughPorts(`QEMU of ${qemu.owner}`, { events: events!, echo: echo! }, daemon, count);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function throughPorts(
  where: string,
  paths: { events: string; echo: string },
  daemon: InputDaemon,
  count: number,
): Promise<void> {
  const events = connect(paths.events);
  const echo = connect(paths.echo);
  const bytes = Buffer.alloc(ANSWER_BYTES);
  try {
    tell(
      `${where}: from the write to the guest's read, and back by a port of QEMU's`,
      await repeat(count, (number) =>
        answered(events, `movement ${number}`, () => daemon.send(movement(number))),
      ),
    );
    tell(
      `${where}: there and back by a port of QEMU's`,
      await repeat(count, (number) => answered(echo, `message ${number}`, () => echo.write(bytes))),
    );
  } finally {
    events.destroy();
    echo.destroy();
  }
}

function movement(number: number): number[][] {
  return [
    [EV_REL, REL_X, number + 1],
    [EV_SYN, 0, 0],
  ];
}

/** Resolves with the moment at which all of an answer was there. `what`: that is answered, for the error. */
function answered(socket: Socket, what: string, act: () => void): Promise<number> {
  return new Promise((resolve, reject) => {
    let left = ANSWER_BYTES;
    const settle = (error?: Error) => {
      clearTimeout(timer);
      socket.off("data", take).off("error", settle);
      if (error === undefined) resolve(performance.now());
      else reject(error);
    };
    const take = (bytes: Buffer) => {
      left -= bytes.length;
      if (left <= 0) settle();
    };
    const late = () => settle(new Error(lost(what, left)));
    const timer = setTimeout(late, ANSWER_MS);
    socket.on("data", take).on("error", settle);
    act();
  });
}

function lost(what: string, left: number): string {
  const missing = `${left} of the ${ANSWER_BYTES} bytes that answer ${what}`;
  return `The guest has not sent ${missing} within ${ANSWER_MS / 1000} s: look whether its cat still runs and reads.`;
}

/** Milliseconds that each took, without the first ones. `act` resolves with the moment of its end. */
async function repeat(count: number, act: (number: number) => Promise<number>): Promise<number[]> {
  const taken: number[] = [];
  for (let i = 0; i < WARM_UP + count; i++) {
    const start = performance.now();
    taken.push((await act(i)) - start);
  }
  return taken.slice(WARM_UP);
}

function tell(what: string, taken: number[]): void {
  taken.sort((a, b) => a - b);
  const at = (share: number) => `${(1000 * taken[Math.floor(share * (taken.length - 1))]!).toFixed(0)} us`;
  console.log(`${what}: p50 ${at(0.5)}, p99 ${at(0.99)}, of ${taken.length}`);
}
