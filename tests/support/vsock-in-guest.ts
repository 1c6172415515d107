// Runs in a guest, which is the host here: serves a guest's guest, a driver of ours, by its own AF_VSOCK. guest-vsock-host.test.ts is
// outside.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { connectDevice } from "./chain-driver.ts";
import { VSOCK_PROGRAM } from "./guest-vsock.ts";
import { report } from "./in-guest.ts";
import { until } from "./until.ts";
import { Vringd } from "./vringd.ts";
import { BOTH, CREDIT_UPDATE, GUEST_CID, NO_SEND, REQUEST, RESPONSE, RST, SHUTDOWN } from "./vsock-packet.ts";
import { GuestStream, VsockGuest } from "./vsock-rig.ts";

const LOCAL = 1;
/** At which an echo listens in this machine; at which whoever calls this machine reaches the guest's guest. */
const ECHO = 7000;
const FORWARDED = [9001, 9002];
const PART = 16 << 10;
const BYTES = 1 << 20;
/** On an emulated processor. */
const PATIENCE_MS = 300_000;

function startFails(...args: string[]): string {
  const [command, ...before] = [...VSOCK_PROGRAM, "--socket-path=/run/refused", ...args];
  const { status, stderr } = spawnSync(command!, before, { encoding: "utf8" });
  assert.equal(status, 1, stderr);
  return stderr.trimEnd();
}

function load(module: string): void {
  const { status, stderr } = spawnSync("insmod", [`/unloaded/${module}.ko`], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
}

function socat(...args: string[]) {
  return spawn("socat", args, { stdio: ["pipe", "pipe", "inherit"] });
}

report("ABSENT", startFails("--forward-cid=1"));
load("vsock");
report("NO_LOOPBACK", startFails("--forward-cid=1"));
load("vmw_vsock_virtio_transport_common");
load("vsock_loopback");

await using daemon = await Vringd.start({
  program: VSOCK_PROGRAM,
  deviceArgs: (directory) => [
    `--guest-cid=${GUEST_CID}`,
    `--uds-path=${join(directory, "uds")}`,
    `--forward-cid=${LOCAL}`,
    `--forward-listen=${FORWARDED.join("+")}`,
  ],
});
const frontEnd = await connectDevice(daemon.socketPath, {
  bits: [spec.VIRTIO_VSOCK_F_STREAM, spec.VIRTIO_VSOCK_F_SEQPACKET],
  queues: 3,
  queueSize: 64,
  configSize: 8,
});
const guest = new VsockGuest(frontEnd);
guest.patienceMs = PATIENCE_MS;
guest.offer();
report("STARTED", "yes");
report("TAKEN", startFails(`--forward-listen=${FORWARDED[0]}`));

const echo = socat(`VSOCK-LISTEN:${ECHO},fork`, "PIPE");
let guestPort = 4000;

/** The guest's guest calls, until somebody is there. */
async function call(cid: number, port: number): Promise<GuestStream> {
  for (const deadline = performance.now() + PATIENCE_MS; performance.now() < deadline; ) {
    const stream = new GuestStream(guest, port, ++guestPort, undefined, cid);
    await stream.say(REQUEST);
    const mine = (packet: { guestPort: number }) => packet.guestPort === stream.guestPort;
    const answer = await guest.next([RESPONSE, RST], mine);
    if (answer.op === RST) continue;
    stream.deviceAlloc = answer.bufAlloc;
    return stream;
  }
  throw new Error(`nobody answers at ${cid}:${port}`);
}

/** What is said comes back. */
async function echoed(stream: GuestStream): Promise<void> {
  const data = randomBytes(BYTES);
  for (let at = 0; at < data.length; ) {
    for (stream.look(); stream.free === 0; stream.look()) await stream.say(CREDIT_UPDATE);
    const part = data.subarray(at, at + Math.min(PART, stream.free));
    await stream.send(part);
    at += part.length;
  }
  while (stream.received.length < data.length) {
    await stream.say(CREDIT_UPDATE);
    await stream.receives(stream.received.length + 1);
  }
  assert.ok(stream.received.equals(data));
}

// To the host, and to the CID itself.
const descriptors = () => daemon.procEntries("fd").length;
let before = 0;
for (const cid of [spec.VSOCK_CID_HOST, LOCAL, spec.VSOCK_CID_HOST]) {
  const stream = await call(cid, ECHO);
  await echoed(stream);
  await stream.say(SHUTDOWN, { flags: BOTH });
  await stream.next(RST);
  await until(() => before === 0 || descriptors() <= before, "all is closed", PATIENCE_MS);
  before ||= descriptors();
}
report("TO_HOST", "as told");

// Where nobody listens, and for messages.
const nobody = new GuestStream(guest, 7001, 1, undefined, spec.VSOCK_CID_HOST);
await nobody.say(REQUEST);
await nobody.next(RST);
const messages = new GuestStream(guest, ECHO, 2, undefined, spec.VSOCK_CID_HOST);
await messages.say(REQUEST, { type: spec.VIRTIO_VSOCK_TYPE_SEQPACKET });
await messages.next(RST);
report("REFUSED", "as told");

// From the host, at either port.
for (const port of FORWARDED) {
  const caller = socat("-", `VSOCK-CONNECT:${LOCAL}:${port}`);
  const heard: Buffer[] = [];
  caller.stdout.on("data", (bytes: Buffer) => heard.push(bytes));
  const request = await guest.next(REQUEST);
  assert.deepEqual([request.cid, request.guestPort], [spec.VSOCK_CID_HOST, port]);
  const stream = new GuestStream(guest, request.port, port);
  await stream.say(RESPONSE);
  const question = randomBytes(100_000);
  caller.stdin.end(question);
  assert.ok((await stream.receives(question.length)).equals(question));
  assert.equal((await stream.next(SHUTDOWN)).flags, NO_SEND);
  const answer = randomBytes(100_000);
  for (let at = 0; at < answer.length; at += PART) await stream.send(answer.subarray(at, at + PART));
  await stream.say(SHUTDOWN, { flags: BOTH });
  await stream.next(RST);
  await until(() => caller.exitCode !== null, "the caller ends", PATIENCE_MS);
  assert.ok(Buffer.concat(heard).equals(answer));
}
report("FROM_HOST", "as told");

echo.kill();
frontEnd.close();
assert.equal(await daemon.stop(), 0);
report("DONE", "yes");
process.exit(0);
