// The examples of the library that are disks, run as their readers would: each serves a front-end of ours. The device among them:
// project.test.ts.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { until } from "../support/until.ts";

const MIB = 2 ** 20;

interface Example {
  frontEnd: FrontEnd;
  /** What it has printed. */
  output(): string;
  type(line: string): void;
  /** Ends it as Ctrl-C does, and tells its status. */
  end(signal?: NodeJS.Signals): Promise<number>;
}

async function withExample(
  name: string,
  args: (directory: string) => string[],
  work: (example: Example, directory: string) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const socketPath = join(directory, "blk.sock");
  const child = start(name, [socketPath, ...args(directory)]);
  let output = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const ended = once(child, "close");
  try {
    await until(() => output.includes("listening"), `${name} listens`, 20_000);
    await using frontEnd = await FrontEnd.connect(socketPath);
    const end = async (signal: NodeJS.Signals = "SIGINT") => {
      child.kill(signal);
      return (await ended)[0];
    };
    await work({ frontEnd, output: () => output, type: (line) => child.stdin!.write(line), end }, directory);
  } finally {
    child.kill("SIGKILL");
    await ended;
    rmSync(directory, { recursive: true });
  }
}

function start(name: string, args: readonly string[]): ChildProcess {
  const program = fileURLToPath(new URL(`examples/${name}.mjs`, import.meta.url));
  return spawn(process.execPath, [program, ...args], { stdio: "pipe" });
}

function image(directory: string): string {
  const path = join(directory, "disk.img");
  writeFileSync(path, Buffer.alloc(MIB, "image"));
  return path;
}

describe("the example", () => {
  test("memory-disk keeps what is written, and ends by Ctrl-C", () =>
    withExample(
      "memory-disk",
      () => [],
      async ({ frontEnd, output, end }) => {
        const disk = frontEnd.disk();
        await disk.write(8, Buffer.alloc(4096, "vringd"));
        assert.deepEqual(await disk.read(8, 8), Buffer.alloc(4096, "vringd"));
        assert.equal(await end(), 0);
        assert.match(output(), /a guest has come\nit has left: 1 reads, 1 writes/);
      },
    ));

  test("computed-disk says where one is, a terabyte out too", () =>
    withExample(
      "computed-disk",
      () => [],
      async ({ frontEnd, end }) => {
        assert.equal(frontEnd.capacity, 2 ** 31);
        for (const sector of [0, 2 ** 31 - 1]) {
          const bytes = await frontEnd.disk().read(sector, 1);
          assert.equal(bytes.readBigUInt64LE(0), BigInt(sector) * 512n);
          assert.equal(bytes.readBigUInt64LE(504), BigInt(sector) * 512n + 504n);
        }
        const { status } = await frontEnd
          .disk()
          .request({ type: VIRTIO_BLK_T_OUT, sector: 0, out: Buffer.alloc(512) });
        assert.equal(status, VIRTIO_BLK_S_IOERR);
        assert.equal(await end(), 0);
      },
    ));

  test("faulty-disk fails what it says, and nothing else", () =>
    withExample(
      "faulty-disk",
      () => [],
      async ({ frontEnd, output, end }) => {
        const disk = frontEnd.disk();
        const statuses: number[] = [];
        for (let i = 0; i < 20; i++) {
          statuses.push((await disk.request({ type: VIRTIO_BLK_T_IN, sector: i, inLength: 512 })).status);
        }
        assert.deepEqual(
          statuses.map((status, i) => (status === VIRTIO_BLK_S_IOERR ? i : -1)).filter((i) => i >= 0),
          [9, 19],
        );
        await assert.rejects(disk.write((48 * MIB) / 512, Buffer.alloc(512)));
        await disk.write(0, Buffer.alloc(512));
        assert.equal(await end(), 0);
        assert.match(output(), /read: read 10 was bound to fail\nread: .*\nwrite: the disk is full/);
      },
    ));

  test("overlay keeps the image as it is", () =>
    withExample(
      "overlay",
      (directory) => [image(directory), join(directory, "changes")],
      async ({ frontEnd, end }, directory) => {
        const disk = frontEnd.disk();
        await disk.write(1, Buffer.alloc(512, "changed"));
        assert.deepEqual(await disk.read(1, 1), Buffer.alloc(512, "changed"));
        assert.equal(await end(), 0);
        assert.deepEqual(readFileSync(join(directory, "disk.img")), Buffer.alloc(MIB, "image"));
      },
    ));

  test("overlay says in a sentence what it can't open", async () => {
    const child = start("overlay", ["/nowhere/blk.sock", "/nowhere/disk.img", "/nowhere/changes"]);
    let output = "";
    child.stderr!.on("data", (chunk) => {
      output += chunk;
    });
    assert.equal((await once(child, "close"))[0], 1);
    assert.equal(output, "can't open /nowhere/disk.img: no such file or directory\n");
  });

  test("abort-signal ends when its program wants, amid a connection", () =>
    withExample(
      "abort-signal",
      (directory) => [image(directory)],
      async ({ frontEnd, output, type }) => {
        assert.equal((await frontEnd.disk().read(0, 1)).subarray(0, 5).toString(), "image");
        type("\n");
        await until(() => output().includes("closed after 1 reads"), "it closes", 10_000);
      },
    ));
});
