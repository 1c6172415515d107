// `vringd vsock connect` and what `vringd ctl` and metrics tell of connections: a daemon, a guest of ours, and this machine's streams.
import assert from "node:assert/strict";
import { request } from "node:http";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectDevice } from "../support/chain-driver.ts";
import { startToolbox, toolbox } from "../support/toolbox.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";
import { GUEST_CID, NO_SEND, REQUEST, RESPONSE, RST, SHUTDOWN } from "../support/vsock-packet.ts";
import { GuestStream, VsockGuest } from "../support/vsock-rig.ts";

async function rig(t: TestContext) {
  const daemon = await Vringd.start({
    program: [process.execPath, join(dirname(PROGRAM), "vringd-vsock.mjs")],
    deviceArgs: (directory) => [
      `--guest-cid=${GUEST_CID}`,
      `--uds-path=${join(directory, "uds")}`,
      `--control-socket=${join(directory, "vm.control")}`,
    ],
  });
  t.after(() => daemon[Symbol.asyncDispose]());
  const frontEnd = await connectDevice(daemon.socketPath, { queues: 2, queueSize: 64, configSize: 8 });
  t.after(() => frontEnd.close());
  const guest = new VsockGuest(frontEnd);
  guest.offer();
  return { guest, uds: join(daemon.directory, "uds"), control: join(daemon.directory, "vm.control") };
}

for (const way of ["uds", "control"] as const) {
  test(`carries a program's streams to a port of the guest, found by its ${way} socket`, async (t) => {
    const { guest, ...paths } = await rig(t);
    const run = startToolbox(["vsock", "connect", paths[way], "1234"], { hasInput: true });
    run.child.stdin!.end("question");
    const { port } = await guest.next(REQUEST, undefined, 60_000);
    const stream = new GuestStream(guest, port, 1234);
    await stream.say(RESPONSE);
    assert.equal(String(await stream.receives(8)), "question");
    assert.equal((await stream.next(SHUTDOWN)).flags, NO_SEND);
    await stream.send(Buffer.from("answer"));
    await stream.say(SHUTDOWN, { flags: 3 });
    assert.deepEqual(await run.done, { status: 0, stdout: "answer", stderr: "" });
  });
}

test("says in a sentence why there is no connection", async (t) => {
  const { guest, uds } = await rig(t);
  const refused = startToolbox(["vsock", "connect", uds, "9"]);
  const { port } = await guest.next(REQUEST, undefined, 60_000);
  await guest.say({ op: RST, port, guestPort: 9 });
  const outcome = await refused.done;
  assert.deepEqual([outcome.status, outcome.stdout], [1, ""]);
  assert.match(outcome.stderr, /^vringd: \S+uds: nobody answers at port 9: [^\n]+\n$/);

  const silent = startToolbox(["vsock", "connect", uds, "9", "--timeout=1"]);
  assert.match((await silent.done).stderr, /^vringd: \S+uds: port 9 has not answered within 1 s\n$/);

  const nowhere = await toolbox(["vsock", "connect", `${uds}-none`, "9"]);
  assert.match(nowhere.stderr, /^vringd: \S+uds-none: no such file or directory\n$/);

  const other = createServer((socket) => socket.end("hello\n")).listen(`${uds}-other`);
  t.after(() => other.close());
  const stranger = await toolbox(["vsock", "connect", `${uds}-other`, "9"]);
  assert.match(stranger.stderr, /^vringd: \S+uds-other: it is no socket of a guest's[^\n]*\n$/);
  for (const each of [await silent.done, nowhere, stranger])
    assert.deepEqual([each.status, each.stdout], [1, ""]);

  for (const wrong of ["-1", "4294967295", "ssh"])
    assert.equal((await toolbox(["vsock", "connect", uds, "--", wrong])).status, 2);
});

test("connections are listed, and counted", async (t) => {
  const { guest, uds, control } = await rig(t);
  const none = await toolbox(["ctl", control, "connections"]);
  assert.match(none.stdout, /^connections +0\n$/);
  const listener = createServer({ pauseOnConnect: true }).listen(`${uds}_52`);
  t.after(() => listener.close());
  const stream = new GuestStream(guest, 52, 4000);
  await stream.say(REQUEST);
  await stream.next(RESPONSE);
  await stream.send(Buffer.alloc(5000));
  const { stdout } = await toolbox(["ctl", control, "connections"]);
  assert.match(stdout, /^guest 4000 - host 52 +open, bytes: from guest 5000, to guest 0, waiting 0, /);
  const metrics = await textOf(control, "/v1/metrics");
  assert.match(metrics, /^vringd_vsock_connections 1$/m);
  assert.match(metrics, /^vringd_vsock_connections_begun 1$/m);
  await stream.say(RST);
  assert.match(await textOf(control, "/v1/metrics"), /^vringd_vsock_connections 0$/m);
});

function textOf(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path }, (response) => {
      let text = "";
      response.on("data", (part) => {
        text += part;
      });
      response.on("end", () => resolve(text));
    })
      .on("error", reject)
      .end();
  });
}
