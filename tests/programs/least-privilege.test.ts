// What the daemon needs no more once it serves, and what of a guest it shows to others.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { ask, Observed } from "../support/observed.ts";
import { tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, traceLines, whyNoStrace } from "../support/strace.ts";
import { Vringd } from "../support/vringd.ts";

// Node itself may read what this names at any time after its start.
delete process.env.NODE_EXTRA_CA_CERTS;

const GIB = 2 ** 30;

/** Mapped whole, and in windows. */
const GUESTS = [
  { size: "small", memory: [{ gpa: 0x1_0000_0000, byteLength: 64 << 20, userAddress: 0x7f5a_c000_0000 }] },
  { size: "large", memory: [{ gpa: 0x1_0000_0000, byteLength: 6 * GIB, userAddress: 0x7f5a_c000_0000 }] },
];

/** Ways to reach a file, a process or a peer that the daemon has not got yet. */
const REACHING_OUT = [
  "open",
  "openat",
  "openat2",
  "creat",
  "execve",
  "execveat",
  "socket",
  "connect",
  "bind",
  "listen",
  "ptrace",
  "mount",
  "unlink",
  "unlinkat",
  "io_uring_setup",
];

for (const engine of ["io_uring", "threads"]) {
  describe(`the daemon with ${engine}`, { timeout: 60_000 }, () => {
    for (const { size, memory } of GUESTS) {
      test(`keeps the memory of a ${size} guest out of core dumps`, async () => {
        await using daemon = await Vringd.start({ args: [`--engine=${engine}`] });
        await using frontEnd = await FrontEnd.connect(daemon.socketPath, { memory, inflight: true });
        await frontEnd.disk().read(0, 8);
        const mappings = mappingsOf(daemon).filter(({ name }) => name.startsWith("/memfd:"));
        assert.ok(mappings.some(({ name }) => name.startsWith("/memfd:guest")));
        assert.ok(mappings.some(({ name }) => name.startsWith("/memfd:vringd-inflight")));
        const dumped = mappings.filter(({ flags }) => !flags.includes("dd"));
        assert.deepEqual(dumped, []);
      });
    }

    test("reaches for nothing new once it is ready", { skip: skipWithout(whyNoStrace()) }, async (t) => {
      const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
      try {
        const trace = join(directory, "trace");
        const under = straceTo(trace, "-e", `trace=${REACHING_OUT.join(",")}`);
        const metrics = join(directory, "metrics.sock");
        const args = [`--engine=${engine}`, "--packed", `--metrics=unix:${metrics}`];
        await using observed = await Observed.start({ args, under });
        const { daemon } = observed;
        const before = callsIn(trace).length;
        for (const packed of [false, true]) {
          await using frontEnd = await FrontEnd.connect(daemon.socketPath, { packed, inflight: true });
          const load = { count: 300, depth: 8, firstSector: 0, sectors: 4096, indirect: true };
          await MixedLoad.run(frontEnd.disk(), { random: tellSeed(t), ...load });
          await frontEnd.resetDevice();
          for (const path of ["status", "stats", "metrics", "openapi.json"]) {
            assert.equal((await observed.ask("GET", `/v1/${path}`)).status, 200);
          }
          assert.equal((await ask(metrics, "GET", "/metrics")).status, 200);
        }
        assert.ok(before > 0);
        assert.deepEqual(callsIn(trace).slice(before), []);
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
  });
}

/** glibc asks once, when it first gives memory back. */
const OF_GLIBC = /"\/proc\/sys\/vm\/overcommit_memory"/;

function callsIn(trace: string): string[] {
  return traceLines(trace).filter((line) => /^\d+ +\w+\(/.test(line) && !OF_GLIBC.test(line));
}

/** Of /proc/PID/smaps: each mapping's name, and its flags. */
function mappingsOf(daemon: Vringd): { name: string; flags: string[] }[] {
  return [
    ...daemon
      .proc("smaps")
      .matchAll(/^[0-9a-f]+-[0-9a-f]+ (?:\S+ +){4}(.*)\n(?:[A-Z].*\n)*?VmFlags: (.*)$/gm),
  ].map(([, name, flags]) => ({ name: name!, flags: flags!.split(" ") }));
}
