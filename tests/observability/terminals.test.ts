// Terminals by HTTP: who gets a connection of their own, who is refused, and who asks for another protocol elsewhere.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { ConsoleHere } from "../support/console-rig.ts";
import { ask } from "../support/observed.ts";
import { until } from "../support/until.ts";

const PORTS = ["console", "a", "b", "c", "d e/ü"];
const TERMINAL = "Connection: Upgrade\r\nUpgrade: vringd-terminal\r\n";

describe("the terminals of a console", { timeout: 120_000 }, () => {
  let rig: ConsoleHere;

  before(async () => {
    rig = await ConsoleHere.start(...PORTS.map((name) => `${name}=none`));
    await rig.openPorts();
  });
  after(() => rig[Symbol.asyncDispose]());

  const list = async () => JSON.parse((await ask(rig.control, "GET", "/v1/terminals")).text).terminals;
  const attachedNow = async () =>
    (await list()).filter(({ isAttached }: { isAttached: boolean }) => isAttached);

  /** What comes back for a request as it stands on the wire. */
  async function send(path: string, headers: string, rest = ""): Promise<{ socket: Socket; head: string }> {
    const socket = connect(rig.control);
    socket.on("error", () => {});
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n${rest}`);
    const [bytes] = await once(socket, "data");
    return { socket, head: String(bytes) };
  }

  async function leave(...sockets: Socket[]): Promise<void> {
    for (const socket of sockets) socket.destroy();
    while ((await attachedNow()).length > 0);
  }

  test("are listed in their order", async () => {
    assert.deepEqual(
      await list(),
      PORTS.map((name) => ({ name, isAttached: false })),
    );
  });

  test("are a connection's after 101, with what came behind the request", async () => {
    const { socket, head } = await send("/v1/terminals/console", TERMINAL, "typed at once");
    assert.equal(
      head,
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: vringd-terminal\r\n\r\n",
    );
    assert.equal(String(await rig.port(0).input.exchange([], [64])), "typed at once");
    const shown = once(socket, "data");
    await rig.port(0).output.exchange([Buffer.from("shown")], []);
    assert.equal(String((await shown)[0]), "shown");
    assert.deepEqual(await attachedNow(), [{ name: "console", isAttached: true }]);
    const second = await send("/v1/terminals/console", TERMINAL);
    assert.match(second.head, /^HTTP\/1\.1 409 .*a terminal is attached to console already/s);
    const { status, text } = await ask(rig.control, "DELETE", "/v1/terminals/console");
    assert.deepEqual([status, JSON.parse(text)], [200, { name: "console", isAttached: false }]);
    await once(socket.resume(), "close");
    await leave(second.socket);
  });

  test("may have any name", async () => {
    const { socket, head } = await send(`/v1/terminals/${encodeURIComponent("d e/ü")}`, TERMINAL);
    assert.match(head, /^HTTP\/1\.1 101 /);
    await leave(socket);
    for (const name of ["", "e", "%", "%2f", "%ff", "__proto__"]) {
      const { status, text } = await ask(rig.control, "PUT", `/v1/terminals/${name}`, '{"cols":1,"rows":1}');
      assert.equal(status, 404, name);
      assert.match(text, /there is no port .*: the ports are console, a, b, c, d e/);
    }
  });

  test("are few at a time, so that others may ask", async () => {
    const open = await Promise.all(PORTS.slice(0, 4).map((name) => send(`/v1/terminals/${name}`, TERMINAL)));
    for (const { head } of open) assert.match(head, /^HTTP\/1\.1 101 /);
    const fifth = await send("/v1/terminals/d%20e%2f%C3%BC", TERMINAL);
    assert.match(fifth.head, /^HTTP\/1\.1 503 .*4 terminals are attached already/s);
    await leave(fifth.socket, ...open.map(({ socket }) => socket));
  });

  test("are not given to who does not ask for the protocol", async () => {
    const { status, headers, text } = await ask(rig.control, "GET", "/v1/terminals/a");
    assert.deepEqual([status, headers.upgrade], [426, "vringd-terminal"]);
    assert.match(text, /only a terminal comes here/);
    const { socket, head } = await send("/v1/terminals/a", "Connection: Upgrade\r\nUpgrade: h2c\r\n");
    assert.match(head, /^HTTP\/1\.1 426 /);
    await leave(socket);
  });

  test("are not in the way of who asks for another protocol elsewhere", async () => {
    for (const upgrade of ["h2c", "vringd-terminal"]) {
      const { socket, head } = await send("/v1/commands", `Connection: Upgrade\r\nUpgrade: ${upgrade}\r\n`);
      assert.match(head, /^HTTP\/1\.1 200 .*\r\nconnection: close\r\n/is);
      await once(socket.resume(), "close");
      const { socket: other, head: nowhere } = await send(
        "/v1",
        `Connection: Upgrade\r\nUpgrade: ${upgrade}\r\n`,
      );
      assert.match(nowhere, /^HTTP\/1\.1 404 /);
      await once(other.resume(), "close");
    }
  });

  test("have a size that is told to the guest", async () => {
    const { status, text } = await ask(rig.control, "PUT", "/v1/terminals/console", '{"cols":100,"rows":30}');
    assert.deepEqual([status, JSON.parse(text)], [200, { cols: 100, rows: 30 }]);
    const config = await rig.frontEnd.readConfig();
    assert.deepEqual([config.readUInt16LE(0), config.readUInt16LE(2)], [100, 30]);
  });

  for (const body of [
    "",
    "null",
    "[]",
    "{}",
    '{"cols":80}',
    '{"cols":0,"rows":1}',
    '{"cols":1,"rows":65536}',
  ]) {
    test(`have no size of ${JSON.stringify(body)}`, async () => {
      assert.equal((await ask(rig.control, "PUT", "/v1/terminals/console", body)).status, 400);
    });
  }

  test("of a client that is gone are free, though the guest reads nothing", async () => {
    const { socket } = await send("/v1/terminals/b", TERMINAL, "never read");
    socket.destroy();
    await rig.port(2).output.exchange([Buffer.from("who is there?")], []);
    await until(() => rig.log.split("terminal detached").length > 1, "it was noticed");
    await leave();
  });
});
