// Guests with vringd-vsock: the program, what runs in the guest, and programs of the host that talk with it.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { truncateSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type GuestProcess,
  type Qemu,
  type QemuGuest,
  startQemuGuest,
  startUmlGuest,
  VSOCK,
} from "./guest.ts";
import { until } from "./until.ts";
import { PROGRAM, Vringd, type VringdOptions } from "./vringd.ts";

export const VSOCK_PROGRAM = [process.execPath, join(dirname(PROGRAM), "vringd-vsock.mjs")];
export const GUEST_CID = 7;
const PART_BYTES = 1 << 20;
const BYTES = process.env.VRINGD_TEST_VSOCK_BYTES;
/** How much longer the way of many bytes may take: an emulated processor makes them up, and sums them up. */
const MOVE_MS = (Number(BYTES ?? 0) / 2 ** 20) * 1000;
/** On a machine that has much else to do. */
export const ANSWER_MS = 300_000 + MOVE_MS;
/** Of a test, in which bytes go both ways. */
export const LIMIT_MS = 900_000 + 2 * MOVE_MS;
const RETRY_MS = 50;
/** QEMU's guests have a disk, which this one has no use for. */
const DISK_BYTES = 16 << 20;

/** How many bytes a test moves, unless VRINGD_TEST_VSOCK_BYTES says it. */
export function bytesToMove(usual: number): number {
  return Number(BYTES ?? usual);
}

export function startVsock(options: VringdOptions = {}): Promise<Vringd> {
  const deviceArgs = (directory: string) => [
    `--guest-cid=${GUEST_CID}`,
    `--uds-path=${join(directory, "uds")}`,
  ];
  return Vringd.start({ program: VSOCK_PROGRAM, deviceArgs, ...options });
}

export function udsOf({ directory }: Vringd): string {
  return join(directory, "uds");
}

/** Does what each line on the guest's own console says, until "end". */
export const doAsTold = `
report READY yes
while read -r line && [ "$line" != end ]; do eval "$line"; done
`;

export interface VsockGuestOptions {
  /** Of vringd-vsock. */
  socketPath: string;
  /** For files of this guest alone. */
  directory: string;
  programs: readonly string[];
  timeoutMs: number;
}

/** A guest that does as it is told: of a QEMU. */
export function startVsockQemu(
  qemu: Qemu,
  { socketPath, directory, programs, timeoutMs }: VsockGuestOptions,
): Promise<QemuGuest> {
  const imagePath = join(directory, `${basename(socketPath)}.img`);
  writeFileSync(imagePath, "");
  truncateSync(imagePath, DISK_BYTES);
  const chardev = `socket,id=vsock,path=${socketPath}`;
  return startQemuGuest({
    qemu,
    imagePath,
    modules: VSOCK.modules,
    programs,
    script: doAsTold,
    timeoutMs,
    extraArgs: ["-chardev", chardev, "-device", "vhost-user-vsock-pci,chardev=vsock"],
  });
}

/** The same, of user-mode-linux. */
export function startVsockUml({ socketPath, programs, timeoutMs }: VsockGuestOptions) {
  return startUmlGuest({ socketPath, device: VSOCK, programs, script: doAsTold, timeoutMs });
}

let questions = 0;

/** What a command prints in the guest, of one line. */
export function ask(guest: GuestProcess, command: string): Promise<string> {
  const key = `ANSWER${++questions}`;
  guest.send(`report ${key} "$(${command})"`);
  return guest.waitForReport(key, ANSWER_MS);
}

/** A command in the guest's background, and a connection to the port at which it listens. */
export function listenInGuest(
  guest: GuestProcess,
  daemon: Vringd,
  port: number,
  command: string,
): Promise<Socket> {
  guest.send(`${command} &`);
  return reachGuest(daemon, port);
}

/** A connection to a port of the guest, once somebody listens there. */
export async function reachGuest(daemon: Vringd, port: number): Promise<Socket> {
  for (const deadline = performance.now() + ANSWER_MS; ; ) {
    try {
      return await callGuest(daemon, port);
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(RETRY_MS);
    }
  }
}

/** A connection to a port of the guest. Rejects if nobody listens there. */
export async function callGuest(daemon: Vringd, port: number): Promise<Socket> {
  const socket = connect({ path: udsOf(daemon), allowHalfOpen: true });
  socket.on("error", () => {});
  socket.write(`CONNECT ${port}\n`);
  let line = "";
  while (!line.endsWith("\n")) {
    if (socket.readableLength === 0) {
      const ending = new AbortController();
      const wait = { signal: ending.signal };
      await Promise.race([once(socket, "readable", wait), once(socket, "close", wait)]).finally(() =>
        ending.abort(),
      );
    }
    const byte = socket.read(1);
    if (byte === null) {
      socket.destroy();
      throw new Error(`nobody answers at port ${port} of the guest`);
    }
    line += byte;
  }
  assert.match(line, /^OK \d+\n$/);
  return socket;
}

/** Calls of the guest, in their order. */
export async function listenForGuest(daemon: Vringd, port: number) {
  const callers: Socket[] = [];
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {});
    callers.push(socket);
  });
  server.listen(`${udsOf(daemon)}_${port}`);
  await once(server, "listening");
  return {
    next: () => until(() => callers.shift(), "a guest's call", ANSWER_MS),
    [Symbol.dispose]: () => {
      server.close();
      for (const socket of callers) socket.destroy();
    },
  };
}

/** All that comes until the end, as a sum. */
export async function sumOf(socket: Socket): Promise<{ sum: string; byteLength: number }> {
  const hash = createHash("sha256");
  let byteLength = 0;
  for await (const bytes of socket) {
    hash.update(bytes);
    byteLength += bytes.length;
  }
  return { sum: hash.digest("hex"), byteLength };
}

/** Says so many random bytes, and ends this direction. */
export async function sayRandom(socket: Socket, byteLength: number): Promise<string> {
  const hash = createHash("sha256");
  for (let left = byteLength; left > 0; left -= PART_BYTES) {
    const bytes = randomBytes(Math.min(left, PART_BYTES));
    hash.update(bytes);
    if (!socket.write(bytes)) await once(socket, "drain");
  }
  socket.end();
  return hash.digest("hex");
}
