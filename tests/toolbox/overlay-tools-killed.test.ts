// `vringd overlay` that is killed, or asked to end, in the middle of its work on real files.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { FileDisk } from "vringd";
import { readOverlay } from "../support/overlay-contents.ts";
import { OverlayRig } from "../support/overlay-rig.ts";
import { skipWithout } from "../support/skip.ts";
import { whyNoStrace } from "../support/strace.ts";
import { startToolbox, toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";

const BYTES = 2 << 20;
const WRITES = "pwrite64,pwritev";
/** So that the writes of all files are counted as those of one thread. */
const ENV = { UV_THREADPOOL_SIZE: "1" };
/** Of how many writes are a commit's: it is killed at these. Among them are the first, and each of those after the blocks. */
const KILLS = Number(process.env.VRINGD_TEST_COMMIT_KILLS ?? 5);

function injecting(what: string): string[] {
  return ["strace", "-D", "-f", "-o", "/dev/null", "-e", `trace=${WRITES}`, "-e", `inject=${WRITES}:${what}`];
}

async function commitEnds(rig: OverlayRig): Promise<void> {
  assert.ok(rig.shown.equals(await readOverlay(rig.path, rig.base)));
  const { status, stderr } = await toolbox(["overlay", "commit", rig.path]);
  assert.deepEqual([status, stderr], [0, ""]);
  assert.ok(rig.holdsBase().equals(rig.shown));
  assert.ok(rig.shown.equals(await readOverlay(rig.path, rig.base)));
  await (await FileDisk.open({ path: rig.base })).close();
}

describe("vringd overlay commit", { skip: skipWithout(whyNoStrace()) }, () => {
  test("killed at any write leaves an overlay that can be served, and ends when it is called again", async (t) => {
    let halfDone = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      using rig = await OverlayRig.make(BYTES);
      const at = 1 + Math.floor((kill * COMMIT_WRITES) / KILLS);
      const killed = injecting(`signal=SIGKILL:when=${at}`);
      const { status } = await toolbox(["overlay", "commit", rig.path], { under: killed, env: ENV });
      assert.equal(status, null, `write ${at} of a commit is none`);
      const bytes = rig.holdsBase();
      if (!bytes.equals(rig.before) && !bytes.equals(rig.shown)) {
        halfDone++;
        await assert.rejects(
          FileDisk.open({ path: rig.base }),
          /is half of what it will be: .*changes was being/,
        );
      }
      await rig.write(64 << 10, Buffer.alloc(512, "meanwhile"));
      await rig.end();
      await commitEnds(rig);
    }
    t.diagnostic(`${KILLS} kills, of which ${halfDone} left half of a commit`);
    assert.ok(halfDone > 0);
  });

  test("ends at SIGINT with status 130, says what is left, and goes on when it is called again", async () => {
    using rig = await OverlayRig.make(BYTES);
    const slow = injecting("delay_enter=100000");
    const run = startToolbox(["overlay", "commit", rig.path], { under: slow, env: ENV });
    await until(() => !rig.holdsBase().equals(rig.before), "the base is written");
    run.child.kill("SIGINT");
    const { status, stdout, stderr } = await run.done;
    assert.equal(status, 130, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /^vringd: stopped before the end: .*changes can be served as before; call .* again/);
    assert.equal(rig.holdsBase().equals(rig.shown), false);
    await assert.rejects(FileDisk.open({ path: rig.base, readOnly: true }), /is half of what it will be/);
    const info = await toolbox(["overlay", "info", rig.path, "--json"]);
    const { base, isCommitting } = JSON.parse(info.stdout);
    assert.deepEqual([base.standing, isCommitting, info.status], ["half-committed", true, 0]);
    await commitEnds(rig);
  });
});

describe("vringd overlay flatten", { skip: skipWithout(whyNoStrace()) }, () => {
  test("ends at SIGTERM with status 143, and leaves nothing", async () => {
    using rig = await OverlayRig.make(BYTES);
    const slow = injecting("delay_enter=100000");
    const args = ["overlay", "flatten", rig.path, rig.at("flat.img")];
    const run = startToolbox(args, { under: slow, env: ENV });
    await until(() => readdirSync(rig.directory).length > 2, "the image is begun");
    run.child.kill("SIGTERM");
    const { status, stderr } = await run.done;
    assert.equal(status, 143, stderr);
    assert.match(stderr, /stopped before the end: .*flat\.img was not made/);
    assert.deepEqual(readdirSync(rig.directory).sort(), ["base.img", "changes"]);
  });
});

/** Of the record, of 12 runs that are not zeroes, of the name, the header, two maps, and the record again. */
const COMMIT_WRITES = 18;
