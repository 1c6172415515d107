// What a disk takes of memory in a process of several, beside a process of its own, while each has served a front-end.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { limitTests } from "../support/bounded-test.ts";
import { ManyDisks } from "../support/many-disks.ts";
import { Vringd } from "../support/vringd.ts";

limitTests(600_000);

const COUNTS = (process.env.VRINGD_TEST_DISKS ?? "8").split(",").map(Number);

/** Its share of what processes have in common, in MiB. */
function pssOf(daemon: Vringd): number {
  return Number(/^Pss:\s+(\d+)/m.exec(daemon.proc("smaps_rollup"))?.[1]) / 1024;
}

async function serveOnce(socketPath: string): Promise<void> {
  await using frontEnd = await FrontEnd.connect(socketPath);
  await frontEnd.disk().write(0, Buffer.alloc(4096));
  await frontEnd.disk().read(0, 8);
}

async function together(count: number): Promise<number> {
  const names = Array.from({ length: count }, (_, i) => `d${i}`);
  await using disks = await ManyDisks.start(names);
  for (const name of names) await serveOnce(disks.socketOf(name));
  return pssOf(disks.daemon);
}

async function each(count: number): Promise<number> {
  const daemons: Vringd[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const daemon = await startAlone();
      daemons.push(daemon);
      await serveOnce(daemon.socketPath);
    }
    return daemons.reduce((sum, daemon) => sum + pssOf(daemon), 0);
  } finally {
    for (const daemon of daemons) await daemon[Symbol.asyncDispose]();
  }
}

function startAlone(): Promise<Vringd> {
  const deviceArgs = (directory: string) => {
    const image = join(directory, "disk.img");
    writeFileSync(image, Buffer.alloc(1 << 20));
    return [`--blk-file=${image}`, `--control-socket=${join(directory, "vm.control")}`, "--threads=1"];
  };
  return Vringd.start({ deviceArgs });
}

for (const count of COUNTS)
  test(`${count} disks take less memory in one process than in one each`, async (t) => {
    const [one, own] = [await together(count), await each(count)];
    t.diagnostic(
      `PSS a disk: ${(one / count).toFixed(1)} MiB together, ${(own / count).toFixed(1)} MiB each`,
    );
    assert.ok(one < own * 0.75, `${one} MiB together, ${own} MiB each`);
  });
