// Upgrades that come to nothing: whatever the successor is or does, the process that serves goes on, and says why.
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { startDevice } from "../support/device-programs.ts";
import { Random } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { whyNoStrace } from "../support/strace.ts";
import { UpgradedDaemon, UpgradeRun } from "../support/upgraded.ts";
import { PROGRAM } from "../support/vringd.ts";

/** A process starts for each upgrade, which takes its time on a busy machine. */
limitTests(600_000);

/** What a process of another release, or of another program, says first. */
const greeting = (greeting: object) => `
import { writeSync } from "node:fs";
const text = Buffer.from(${JSON.stringify(JSON.stringify(greeting))});
const header = Buffer.alloc(8);
header.writeUInt32LE(text.length);
writeSync(3, header);
writeSync(3, text);
setInterval(() => {}, 1000);
`;

/** A successor is killed at its so-manieth sendmsg(2): it greets by two, says that it is prepared by two, and that it takes over by two. */
const SENDS = 6;

describe("an upgrade that fails leaves the front-end with the process that it has", {
  timeout: 900_000,
}, () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  let run: UpgradeRun;

  before(async () => {
    run = await UpgradeRun.start({ queues: 2 }, new Random());
  });
  after(() => run[Symbol.asyncDispose]());

  function script(name: string, text: string): string {
    const path = join(directory, name);
    writeFileSync(path, text);
    chmodSync(path, 0o755);
    return path;
  }

  async function refuses(binary: string, reason: RegExp): Promise<void> {
    const { upgraded } = run;
    await run.under(async () => {
      assert.match(await upgraded.refusal(binary), reason);
      await run.progress();
    });
    assert.equal(upgraded.pid, upgraded.daemon.pid);
    assert.ok(upgraded.isAlive);
  }

  const STRANGERS: readonly [what: string, name: string, text: string, reason: RegExp][] = [
    ["ends at once", "ends", "#!/bin/sh\nexit 3\n", /ends ended with status 3$/],
    ["closes its end and stays", "hangs-up", "#!/bin/sh\nexec 3>&-\nexec sleep 1000\n", /hangs-up ended with SIGKILL$/],
    ["has another version of the state", "later.mjs", greeting({ stateVersion: 99, program: "vringd-blk", release: "9.0.0" }), /vringd-blk 9\.0\.0 hands over by version 99 of the state, this process by 1/],
    ["is another program", "other.mjs", greeting({ stateVersion: 1, program: "vringd-rng", release: "1" }), /that is vringd-rng, not vringd-blk$/],
    ["sends what makes no sense", "nonsense", "#!/bin/sh\nhead -c 64 /dev/zero | tr '\\0' '\\377' >&3\n", /nonsense ended with (status 0|SIGKILL)$/],
  ]; // biome-ignore format: a line each
  for (const [what, name, text, reason] of STRANGERS) {
    test(`that ${what}`, () => refuses(script(name, text), reason));
  }

  test("that is not there", () =>
    refuses("/nonexistent/vringd-blk", /can't be started: no such file or directory$/));

  test("that others may write to", async () => {
    const path = script("loose", "#!/bin/sh\n");
    chmodSync(path, 0o777);
    await refuses(path, /loose is another user's, or others may write to it/);
  });

  test("that can't start with these options", async () => {
    const node = `exec ${process.execPath} ${PROGRAM} --no-such-option "$@"`;
    await refuses(script("options", `#!/bin/sh\n${node}\n`), /options ended with status 2$/);
  });

  for (let send = 1; send <= SENDS; send++) {
    const inject = `-e trace=sendmsg -e inject=sendmsg:signal=KILL:when=${send}`;
    const strace = `exec strace -D -f -o /dev/null ${inject} ${process.execPath} ${PROGRAM} "$@"`;
    test(`that is killed at its sendmsg(2) ${send} of ${SENDS}`, { skip: skipWithout(whyNoStrace()) }, () =>
      refuses(script(`killed-${send}`, `#!/bin/sh\n${strace}\n`), /ended with SIGKILL$/),
    );
  }

  test("and the next one succeeds", async () => {
    await run.under(async () => {
      await run.upgraded.upgrade();
      await run.progress();
    });
    assert.notEqual(run.upgraded.pid, run.upgraded.daemon.pid);
    await run.upgraded.stop();
  });
});

test("is refused for a disk in memory, and for devices that can't hand over yet", async () => {
  await using disk = await UpgradedDaemon.start({ blkFile: "memory:64M" });
  assert.match(
    await disk.refusal(),
    /memory:64M is in this process's memory alone, so no other can go on with it$/,
  );
  const controlSocket = `@vringd-test-${process.pid}`;
  await using daemon = await startDevice("input", [`--control-socket=${controlSocket}`]);
  const input = UpgradedDaemon.of(daemon, controlSocket);
  assert.match(await input.refusal(), /what a device of type input knows of its guest can't be handed/);
});
