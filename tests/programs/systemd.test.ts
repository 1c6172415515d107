// The systemd units that come along: sound, tight, and not too tight.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { Observed } from "../support/observed.ts";
import { tellSeed } from "../support/random.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { straceTo, traceLines, whyNoStrace } from "../support/strace.ts";
import { PROGRAM } from "../support/vringd.ts";

const UNITS = fileURLToPath(new URL("../../host/systemd/", import.meta.url));
const SERVICE = "vringd-blk@.service";
const SOCKET = "vringd-blk@.socket";

/** In tenths, as systemd-analyze takes it: 0 is best, 100 worst, and what it calls safe ends at 20. */
const EXPOSURE_MAX = 10;

function analyze(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync("systemd-analyze", args, { encoding: "utf8" });
  return { status, output: stdout + stderr };
}

describe("the systemd units", { skip: skipWithout(whyNoProgram("systemd-analyze")) }, () => {
  let directory: string;
  let service: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    cpSync(UNITS, directory, { recursive: true });
    service = join(directory, SERVICE);
    // The program lies elsewhere here, and must be there.
    const text = readFileSync(service, "utf8");
    writeFileSync(service, text.replace("ExecStart=vringd-blk", `ExecStart=${process.execPath} ${PROGRAM}`));
  });
  after(() => rmSync(directory, { recursive: true }));

  test("are understood as a whole", () => {
    const { status, output } = analyze("verify", service, join(directory, SOCKET));
    // About other units of the machine it may complain as it likes.
    const complaints = output.split("\n").filter((line) => line.includes("vringd"));
    assert.deepEqual([status, complaints], [0, []]);
  });

  test("leave little exposed", (t) => {
    const { status, output } = analyze(
      "security",
      "--offline=true",
      `--threshold=${EXPOSURE_MAX}`,
      "--no-pager",
      service,
    );
    t.diagnostic(/Overall exposure level[^\n]*: \S+ \S+/.exec(output)?.[0] ?? output);
    assert.equal(status, 0, output);
  });

  for (const engine of ["io_uring", "threads"]) {
    test(`forbid no system call that the daemon makes, with ${engine}`, {
      skip: skipWithout(whyNoStrace()),
    }, async (t) => {
      const forbidden = forbiddenCalls(readFileSync(service, "utf8"));
      const trace = join(directory, `trace-${engine}`);
      const args = [`--engine=${engine}`, "--direct"];
      const under = ["env", "NOTIFY_SOCKET=/run/systemd/notify", ...straceTo(trace)];
      await using observed = await Observed.start({ args, onDisk: true, under });
      const { daemon } = observed;
      for (const path of ["status", "stats", "metrics"]) await observed.ask("GET", `/v1/${path}`);
      const frontEnd = await FrontEnd.connect(daemon.socketPath, { inflight: true });
      const load = { count: 200, depth: 8, firstSector: 0, sectors: 4096, indirect: true };
      await MixedLoad.run(frontEnd.disk(), { random: tellSeed(t), ...load });
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
      const made = new Set(traceLines(trace).map((line) => /^\d+ +(\w+)\(/.exec(line)?.[1]));
      assert.ok(made.has("recvmsg") && made.has("mmap"));
      assert.deepEqual(
        [...made].filter((call) => call !== undefined && forbidden(call)),
        [],
      );
    });
  }
});

/** Whether a system call is refused by the unit's filters: not in the first, or in the second, which begins with "~". */
function forbiddenCalls(unit: string): (call: string) => boolean {
  const filters = [...unit.matchAll(/^SystemCallFilter=(~?)(.*)$/gm)];
  const allowed = callsOf(filters.filter(([, not]) => not === "").map(([, , list]) => list!));
  const denied = callsOf(filters.filter(([, not]) => not === "~").map(([, , list]) => list!));
  assert.ok(allowed.has("read") && denied.has("setuid"));
  return (call) => !allowed.has(call) || denied.has(call);
}

function callsOf(lists: readonly string[]): Set<string> {
  const calls = new Set<string>();
  for (const name of lists.flatMap((list) => list.split(" "))) {
    if (!name.startsWith("@")) calls.add(name);
    else for (const call of groupOf(name)) calls.add(call);
  }
  return calls;
}

/** Groups may be of groups. */
function groupOf(group: string): string[] {
  const lines = analyze("syscall-filter", group).output.split("\n").slice(1);
  const names = lines.map((line) => line.trim()).filter((name) => /^@?\w+[\w-]*$/.test(name));
  return names.flatMap((name) => (name.startsWith("@") ? groupOf(name) : [name]));
}
