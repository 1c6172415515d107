// Several guests of one vringd-vsock: what each has of its own, what they share, and what can't be served together.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { validateGuests } from "../../build/schemas.js";
import { GUESTS_MAX } from "../../host/devices/vsock/guests/guest.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { connectDevice } from "../support/chain-driver.ts";
import { VSOCK_PROGRAM } from "../support/guest-vsock.ts";
import { ask } from "../support/observed.ts";
import { Manager } from "../support/service-manager.ts";
import { Vringd, type VringdOptions } from "../support/vringd.ts";
import { REQUEST, RESPONSE, RST } from "../support/vsock-packet.ts";
import { GuestStream, VsockGuest } from "../support/vsock-rig.ts";

const CIDS = [4, 5];

const directory = mkdtempSync(join(tmpdir(), "vringd-guests-"));
after(() => rmSync(directory, { recursive: true, force: true }));

function startTwo(options: VringdOptions = {}): Promise<Vringd> {
  const deviceArgs = (own: string) =>
    CIDS.map((cid) => `--guest=${cid}:${own}/vs${cid}:uds=${own}/uds${cid}`);
  return Vringd.start({ program: VSOCK_PROGRAM, deviceArgs, ...options });
}

async function attach(daemon: Vringd, cid: number): Promise<{ frontEnd: FrontEnd; guest: VsockGuest }> {
  const frontEnd = await connectDevice(join(daemon.directory, `vs${cid}`), {
    bits: [spec.VIRTIO_VSOCK_F_STREAM],
    queues: 3,
    queueSize: 64,
    configSize: 8,
  });
  const guest = new VsockGuest(frontEnd, cid);
  guest.offer();
  return { frontEnd, guest };
}

/** What a program says that can't start. */
function refusal(...args: string[]): { status: number | null; sentence: string } {
  const { status, stderr } = spawnSync(VSOCK_PROGRAM[0]!, [...VSOCK_PROGRAM.slice(1), ...args], {
    encoding: "utf8",
  });
  return { status, sentence: stderr.trimEnd().replaceAll(directory, "DIR") };
}

describe("two guests of one program", () => {
  test("reach each other, and one that goes, or breaks the rules, takes nothing from the other", async () => {
    await using daemon = await startTwo();
    const [first, second] = await Promise.all(CIDS.map((cid) => attach(daemon, cid)));
    assert.equal(first!.frontEnd.config.readUInt32LE(), 4);
    assert.equal(second!.frontEnd.config.readUInt32LE(), 5);
    const near = new GuestStream(first!.guest, 52, 4000, undefined, 5);
    await near.say(REQUEST);
    await second!.guest.next(REQUEST, ({ cid }) => cid === 4);
    const far = new GuestStream(second!.guest, 4000, 52, undefined, 4);
    await far.say(RESPONSE);
    await near.next(RESPONSE);
    await near.send(Buffer.from("hello"));
    assert.equal(String(await far.receives(5)), "hello");

    second!.frontEnd.close();
    await near.next(RST);
    const third = await attach(daemon, 5);
    // No message of any version.
    await third.frontEnd.connection.send(Buffer.alloc(12, 0xff));
    await daemon.waitForLog(/connection closed/);
    await near.say(REQUEST);
    await near.next(RST);
    assert.equal(await daemon.stop(), 0);
    for (const cid of CIDS)
      for (const name of ["vs", "uds"]) assert.ok(!existsSync(join(daemon.directory, `${name}${cid}`)));
    first!.frontEnd.close();
    third.frontEnd.close();
  });

  test("are seen one by one, each at a control socket, and together in the metrics", async () => {
    const control = (cid: number) => join(directory, `vms-${cid}.control`);
    const metrics = join(directory, "metrics");
    await using daemon = await startTwo({
      args: [`--control-socket=${join(directory, "vms.control")}`, `--metrics=unix:${metrics}`],
    });
    const { frontEnd } = await attach(daemon, 5);
    await daemon.waitForLog(/front-end connected/);
    const status = JSON.parse((await ask(control(4), "GET", "/v1/status")).text);
    assert.equal(status.frontEnd, null);
    assert.deepEqual(status.entrance, { socketPath: join(daemon.directory, "vs4") });
    assert.deepEqual(status.sockets, { guestCid: 4, udsPath: join(daemon.directory, "uds4") });
    const { text } = await ask(metrics, "GET", "/metrics");
    for (const line of [
      'vringd_vsock_front_end_connected{guest_cid="4"} 0',
      'vringd_vsock_front_end_connected{guest_cid="5"} 1',
      'vringd_vsock_connections{guest_cid="4"} 0',
      'vringd_vsock_ring_running{queue="0",guest_cid="5"} 1',
    ])
      assert.ok(text.includes(line), `${line} is not in\n${text}`);
    assert.equal((await ask(control(5), "GET", "/v1/metrics")).text.includes('guest_cid="4"'), false);
    const { watched } = JSON.parse((await ask(control(5), "GET", "/v1/stats")).text);
    assert.deepEqual(watched, { connections: "0" });
    assert.ok(daemon.linesLike(/front-end connected +guestCid=5/).length === 1);
    // It ends all.
    await ask(control(4), "POST", "/v1/quit");
    assert.equal(await daemon.end(), 0);
    frontEnd.close();
    for (const cid of CIDS) assert.ok(!existsSync(control(cid)));
  });

  test("tell a service manager once that they are ready, and how many front-ends there are", async () => {
    const name = join(directory, "notify");
    const manager = new Manager(name);
    try {
      await using daemon = await startTwo({ under: ["env", `NOTIFY_SOCKET=${name}`] });
      await manager.hears(/^STATUS=serving 0 of 2 front-ends$/m);
      const { frontEnd } = await attach(daemon, 4);
      await manager.hears(/^STATUS=serving 1 of 2 front-ends$/m);
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
      assert.equal(manager.all().filter((text) => /^READY=1$/m.test(text)).length, 1);
    } finally {
      manager.close();
    }
  });

  test("end the program, with --once, when each has had its front-end", async () => {
    await using daemon = await startTwo({ args: ["--once"] });
    for (const cid of CIDS) {
      assert.ok(!daemon.hasEnded);
      (await attach(daemon, cid)).frontEnd.close();
    }
    assert.equal(await daemon.end(), 0);
  });
});

test(`${GUESTS_MAX} guests are served, from a file`, async () => {
  const deviceArgs = (own: string) => {
    const guests = Array.from({ length: GUESTS_MAX }, (_, i) => ({
      cid: 100 + i,
      socket: join(own, `vs${100 + i}`),
      udsPath: join(own, `uds${100 + i}`),
      groups: [`group${i % 2}`],
    }));
    const path = join(own, "guests.json");
    writeFileSync(path, JSON.stringify({ guests }));
    return [`--guests-file=${path}`];
  };
  await using daemon = await Vringd.start({ program: VSOCK_PROGRAM, deviceArgs });
  const { frontEnd, guest } = await attach(daemon, 100 + GUESTS_MAX - 1);
  const stranger = new GuestStream(guest, 52, 4000, undefined, 100);
  await stranger.say(REQUEST);
  await stranger.next(RST);
  frontEnd.close();
  assert.equal(await daemon.stop(), 0);
});

const at = (name: string) => join(directory, name);

describe("a command line is refused", () => {
  for (const [why, args, sentence] of [
    [
      "two guests of one CID",
      [`--guest=4:${at("a")}`, `--guest=4:${at("b")}`],
      "two guests have the CID 4: give each one of its own",
    ],
    [
      "two guests at one socket",
      [`--guest=4:${at("a")}`, `--guest=5:${at("./a")}`],
      "two sockets would be at DIR/a: give each a path of its own",
    ],
    [
      "two guests with one Unix socket",
      [`--guest=4:${at("a")}:uds=${at("u")}`, `--guest=5:${at("b")}:uds=${at("u")}`],
      "two sockets would be at DIR/u: give each a path of its own",
    ],
    [
      "a guest that could call another one's entrance",
      [`--guest=4:${at("a")}:uds=${at("u")}`, `--guest=5:${at("u_77")}`],
      "DIR/u_77 is where a guest's calls to port 77 go, since DIR/u is its Unix socket: choose another path",
    ],
    [
      "a guest that could call its own entrance",
      [`--uds-path=${at("u")}`, `--socket-path=${at("u_78")}`],
      "DIR/u_78 is where a guest's calls to port 78 go, since DIR/u is its Unix socket: choose another path",
    ],
    [
      "a guest that could command its daemon",
      [`--uds-path=${at("u")}`, `--socket-path=${at("s")}`, `--control-socket=${at("u_1")}`],
      "DIR/u_1 is where a guest's calls to port 1 go, since DIR/u is its Unix socket: choose another path",
    ],
    [
      "a guest that could ask for metrics",
      [`--guest=4:${at("a")}:uds=${at("u")}`, `--metrics=unix:${at("u_3")}`],
      "DIR/u_3 is where a guest's calls to port 3 go, since DIR/u is its Unix socket: choose another path",
    ],
    [
      "one port for two guests",
      [`--guest=4:${at("a")}:forward-listen=9+10`, `--guest=5:${at("b")}:forward-listen=10`],
      "port 10 of the host would be forwarded twice: leave one out",
    ],
    [
      "a guest whose calls go to another one's CID",
      [`--guest=4:${at("a")}:forward-cid=5`, `--guest=5:${at("b")}`],
      "calls of guest 4 would be forwarded to CID 5, which another guest here has: choose another CID",
    ],
    [
      "a CID beside guests",
      ["--guest-cid=3", `--guest=4:${at("a")}`],
      "--guest-cid is of no use with --guest, which says it for each guest",
    ],
    [
      "an entrance beside guests",
      [`--socket-path=${at("s")}`, `--guest=4:${at("a")}`],
      "--socket-path is of no use here: each of several devices has a socket of its own",
    ],
    [
      "guests in both ways",
      [`--guest=4:${at("a")}`, "--guests-file=x"],
      "--guest and --guests-file exclude each other",
    ],
    [
      "a guest that nobody reaches",
      [`--socket-path=${at("s")}`],
      "--uds-path is missing: the Unix socket by which the host reaches the guest; or --forward-cid, --forward-listen, --guest",
    ],
  ] as const)
    test(why, () => {
      assert.deepEqual(refusal(...args), { status: 2, sentence: `vringd-vsock: ${sentence} (see --help)` });
    });

  for (const text of [
    "4",
    "2:x",
    "4:",
    "4:x:y",
    "4:x:groups=",
    "4:x:groups=a b",
    "4:x:uds=",
    "4:x:groups=a:groups=b",
    "4:x:max-connections=0",
    "4:x:constructor=1",
  ])
    test(`a guest that is ${text}`, () => {
      const { status, sentence } = refusal(`--guest=${text}`);
      assert.equal(status, 2);
      assert.ok(sentence.startsWith("vringd-vsock: --guest takes CID:SOCKET"), sentence);
      assert.ok(sentence.includes(`not "${text}"`), sentence);
    });
});

describe("a file of guests is refused", () => {
  for (const [content, sentence] of [
    ["{", "it is not JSON: it ends too early, at line 1, column 2"],
    ["{}", '"guests" is missing; add it'],
    ['{"guests":[]}', '"guests" must NOT have fewer than 1 items; it is []'],
    ['{"guests":[{"cid":2,"socket":"x"}]}', '"guests 0 cid" must be >= 3; it is 2'],
    ['{"guests":[{"cid":4}]}', '"socket" is missing in "guests 0"; add it'],
    ['{"guests":[{"cid":4,"socket":7}]}', '"guests 0 socket" must be a string, not a number'],
    [
      '{"guests":[{"cid":4,"socket":"x","group":[]}]}',
      'the schema has no member "group" in "guests 0"; see whether it is spelt right',
    ],
    [
      '{"guests":[{"cid":4,"socket":"x","groups":["a b"]}]}',
      '"guests 0 groups 0" must match pattern "^[A-Za-z0-9_.-]{1,64}$"; it is "a b"',
    ],
    [
      '{"guests":[{"cid":4,"socket":"/x"},{"cid":4,"socket":"/y"}]}',
      "two guests have the CID 4: give each one of its own",
    ],
  ] as const)
    test(content, () => {
      writeFileSync(at("guests.json"), content);
      assert.deepEqual(refusal(`--guests-file=${at("guests.json")}`), {
        status: 1,
        sentence: `vringd-vsock: DIR/guests.json: ${sentence}`,
      });
    });

  test("that is not there", () => {
    assert.deepEqual(refusal(`--guests-file=${at("none")}`), {
      status: 1,
      sentence: "vringd-vsock: can't read the guests of DIR/none: no such file or directory",
    });
  });

  test("by its schema where the options would take too many", () => {
    const guests = (length: number) => ({
      guests: Array.from({ length }, (_, i) => ({ cid: 3 + i, socket: `s${i}` })),
    });
    assert.ok(validateGuests(guests(GUESTS_MAX)));
    assert.ok(!validateGuests(guests(GUESTS_MAX + 1)));
  });
});
