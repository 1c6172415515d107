// Commands that a device brings, given by `vringd ctl` and by other clients of the control socket.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { DeviceCommand } from "../../host/devices/device.ts";
import { controlRoutes } from "../../host/observability/control.ts";
import { closeNow, createBoundedServer } from "../../host/observability/http-server.ts";
import type { Subject } from "../../host/observability/subject.ts";
import { SILENT } from "../../host/process/log.ts";
import { ask } from "../support/observed.ts";
import { toolbox } from "../support/toolbox.ts";

const lamp = { isOn: false };
const commands: Record<string, DeviceCommand> = {
  switch: {
    usage: "on|off",
    help: "switch the lamp",
    run([state, ...others]) {
      if (others.length > 0 || (state !== "on" && state !== "off"))
        throw new RangeError("switch takes on or off");
      lamp.isOn = state === "on";
      return undefined;
    },
  },
  show: {
    usage: "",
    help: "how the lamp is",
    run: async () => ({ lamp: lamp.isOn ? "on" : "off", watts: 40 }),
  },
  say: { usage: "WORD...", help: "repeat it", run: (words) => ({ words: words.join("|") }) },
  fail: { usage: "", help: "a fault of the device", run: () => assert.fail("a fault") },
};

describe("a device's commands", { timeout: 60_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const socket = join(directory, "lamp.control");
  const nothing = {} as never;
  const subject = { backend: { device: { commands } } } as unknown as Subject;
  const server = createBoundedServer(
    controlRoutes(subject, nothing, nothing, nothing, nothing, nothing, () => {}),
    SILENT,
  );

  before(() => new Promise<void>((resolve) => server.listen(socket, resolve)));
  after(() => {
    closeNow(server);
    rmSync(directory, { recursive: true });
  });

  const give = (body: unknown) => ask(socket, "POST", "/v1/commands", JSON.stringify(body));

  test("are listed with what they take", async () => {
    const { status, stdout } = await toolbox(["ctl", socket, "commands"]);
    assert.equal(status, 0);
    assert.equal(
      stdout,
      "switch on|off  switch the lamp\nshow           how the lamp is\nsay WORD...    repeat it\nfail           a fault of the device\n",
    );
  });

  test("are given by ctl, which prints the answer", async () => {
    assert.deepEqual(await toolbox(["ctl", socket, "switch", "on"]), { status: 0, stdout: "", stderr: "" });
    const { stdout } = await toolbox(["ctl", socket, "show"]);
    assert.equal(stdout, "lamp   on\nwatts  40\n");
    const asJson = await toolbox(["ctl", "--json", socket, "show"]);
    assert.deepEqual(JSON.parse(asJson.stdout), { lamp: "on", watts: 40 });
  });

  test("may have any words for arguments", async () => {
    const { stdout } = await toolbox(["ctl", socket, "say", "-5", "two words", "", "ä"]);
    assert.equal(stdout, "words  -5|two words||ä\n");
  });

  test("say what is wrong with their arguments", async () => {
    const { status, stderr } = await toolbox(["ctl", socket, "switch", "half"]);
    assert.deepEqual([status, stderr], [1, `vringd: ${socket}: switch takes on or off\n`]);
  });

  test("that are none are answered with those that are", async () => {
    const { status, stderr } = await toolbox(["ctl", socket, "dance"]);
    const sentence = `vringd: ${socket}: there is no command "dance": its commands are switch, show, say, fail\n`;
    assert.deepEqual([status, stderr], [1, sentence]);
    assert.equal((await give({ command: "toString" })).status, 404);
  });

  test("that fail are answered without what is inside", async () => {
    const { status, text } = await give({ command: "fail" });
    assert.equal(status, 500);
    assert.doesNotMatch(text, /a fault/);
  });

  for (const body of [
    null,
    [],
    "show",
    {},
    { command: 1 },
    { command: "show", arguments: "now" },
    { command: "show", arguments: [1] },
    { command: "show", more: 1 },
  ]) {
    test(`are not given by ${JSON.stringify(body)}`, async () => {
      assert.equal((await give(body)).status, 400);
    });
  }
});
