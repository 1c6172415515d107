// Guests whose console is vringd-console: the program with its ports, what runs in the guest, and who logs in there.
import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { type ConsolePeer, GO } from "./console-peer.ts";
import type { GuestProcess } from "./guest-process.ts";
import { PROGRAM, Vringd, type VringdOptions } from "./vringd.ts";

const CONSOLE_PROGRAM = [process.execPath, join(dirname(PROGRAM), "vringd-console.mjs")];
/** Ports of the guest's console device, and its messages (virtio 1.4, 5.3.2). */
const QUEUES_A_PORT = 2;
const CONTROL_QUEUES = 2;

const USER = "operator";
const PASSWORD = "open sesame";

/** By name: how the host comes to each. */
export type Ports = Readonly<Record<string, "unix" | "pty" | "file">>;

export function startConsole(ports: Ports, options: VringdOptions = {}): Promise<Vringd> {
  const deviceArgs = (directory: string) =>
    Object.entries(ports).map(([name, kind]) => `--port=${name}=${kind}:${join(directory, name)}`);
  return Vringd.start({ program: CONSOLE_PROGRAM, deviceArgs, ...options });
}

/** Where the host side of a port is. */
export function hostSide({ directory }: Vringd, name: string): string {
  return join(directory, name);
}

export function queueCount(ports: Ports): number {
  const { length } = Object.keys(ports);
  return length * QUEUES_A_PORT + (length > 1 ? CONTROL_QUEUES : 0);
}

/**
 * Does what each line on the guest's own console says, until "end". Beside the helpers of every script:
 *   let_in       waits for whoever logs in at hvc0, again and again
 *   port NAME    prints the port's device file; an initramfs has no udev to make /dev/virtio-ports
 */
export const doAsTold = () => `
mkdir -p /etc
echo '${USER}:${encrypted(PASSWORD)}:1000:1000::/run:/bin/sh' > /etc/passwd
echo '${USER}:x:1000:' > /etc/group
let_in() { (while :; do setsid getty -L 0 hvc0 vt100 || sleep 1; done) > /dev/null 2>&1 & }
port() {
  for entry in /sys/class/virtio-ports/*; do
    if [ "$(cat "$entry/name" 2>/dev/null)" = "$1" ]; then echo "/dev/\${entry##*/}"; fi
  done
}
report READY yes
while read -r line && [ "$line" != end ]; do eval "$line"; done
`;

/** As login(1) compares it. */
function encrypted(password: string): string {
  return execFileSync("openssl", ["passwd", "-6", password], { encoding: "utf8" }).trim();
}

/** On a machine that has much else to do. */
const ANSWER_MS = 300_000;
let questions = 0;

/** What a command prints in the guest, of one line. */
export function ask(guest: GuestProcess, command: string): Promise<string> {
  const key = `ANSWER${++questions}`;
  guest.send(`report ${key} "$(${command})"`);
  return guest.waitForReport(key, ANSWER_MS);
}

/** Has the guest do something, and waits until it has. */
export async function tell(guest: GuestProcess, command: string): Promise<void> {
  const key = `DONE${++questions}`;
  guest.send(`${command}; report ${key} yes`);
  await guest.waitForReport(key, ANSWER_MS);
}

/** A peer's coming takes a moment, until which what the guest prints at hvc0 is dropped. */
export async function untilHeard(guest: GuestProcess, peer: ConsolePeer, word: string): Promise<void> {
  guest.send(`(until [ -e heard ]; do echo ${word} > /dev/hvc0; sleep 0.1; done) & echoes=$!`);
  await peer.waitFor(new RegExp(`${word}\n`));
  await tell(guest, "touch heard; wait $echoes; rm heard");
}

/** As at any terminal: a name, a password, a shell. */
export async function logIn(peer: ConsolePeer): Promise<void> {
  await peer.waitFor(/login: /);
  peer.say(`${USER}\r`);
  await peer.waitFor(/Password: /);
  peer.say(`${PASSWORD}\r`);
  await peer.waitFor(/\$ /);
}

/**
 * Has the guest write and read so many random bytes at once at a device file, as soon as it has read GO there. Reports the sums as
 * SAID, which is before it starts, and HEARD.
 */
export function exchangeInGuest(file: string, byteLength: number): string {
  const sum = "sha256sum | cut -c1-64";
  return [
    `exec 5<>${file}`,
    "if [ -t 5 ]; then stty raw -echo <&5; fi",
    `head -c ${byteLength} /dev/urandom > said`,
    `report SAID $(cat said | ${sum})`,
    // A port that nobody has open at the host side gives nothing.
    `until [ "$(dd bs=1 count=1 <&5 2>/dev/null)" = ${GO} ]; do sleep 0.1; done`,
    `(head -c ${byteLength} <&5 | ${sum} > heard) & cat said >&5`,
    "wait $!",
    "exec 5>&-",
    "report HEARD $(cat heard)",
    "rm said heard",
  ].join("; ");
}
