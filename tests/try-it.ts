// `npm start`: serves a scratch disk, checks it with a front-end of our own, and says how to attach a real guest.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SECTOR_SIZE } from "../assembly/spec/virtio-blk.ts";
import type { BlkDriver } from "../host/front-end/blk-driver.ts";
import { FrontEnd } from "../host/front-end/front-end.ts";
import { INSTALLED_QEMU, qemuVersion, reconnectOption } from "./support/qemu-releases.ts";
import { randomReads } from "./support/random-reads.ts";

const DISK_SIZE = 1024 ** 3;
const WRITE_SIZE = 1024 ** 2;
const WRITES = 32;
const READS = 100_000;
const READ_SIZE = 4096;
const DEPTH = 32;
/** Whose options are told where none is installed. */
const NEWEST_QEMU = [11, 0] as const;

const directory = mkdtempSync(join(tmpdir(), "vringd-"));
const image = join(directory, "scratch.img");
const socketPath = join(directory, "vringd.sock");

async function main(): Promise<void> {
  writeFileSync(image, "");
  truncateSync(image, DISK_SIZE);
  const daemon = startDaemon();
  const ended = once(daemon, "exit");
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => daemon.kill("SIGTERM"));
  const isSound = await Promise.race([selfCheck(), ended.then(() => false)]);
  if (isSound) console.log(invitation());
  else daemon.kill("SIGTERM");
  const [status] = await ended;
  rmSync(directory, { recursive: true });
  process.exit(isSound ? (status ?? 1) : 1);
}

function startDaemon(): ChildProcess {
  const program = fileURLToPath(new URL("../vringd-blk.mjs", import.meta.url));
  const args = [`--blk-file=${image}`, `--socket-path=${socketPath}`];
  console.log(`$ vringd-blk ${args.join(" ")}\n`);
  return spawn(process.execPath, [program, ...args], { stdio: "inherit" });
}

async function selfCheck(): Promise<boolean> {
  try {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const disk = frontEnd.disk();
    await writeAndReadBack(disk);
    await readAtRandom(disk);
    return true;
  } catch (error) {
    console.error(`The self-check failed: ${(error as Error).message}`);
    return false;
  }
}

async function writeAndReadBack(disk: BlkDriver): Promise<void> {
  const sectors = WRITE_SIZE / SECTOR_SIZE;
  for (let i = 0; i < WRITES; i++) await disk.write(i * sectors, pattern(i));
  await disk.flush();
  for (let i = 0; i < WRITES; i++) {
    if (!(await disk.read(i * sectors, sectors)).equals(pattern(i)))
      throw new Error(`MiB ${i} came back changed`);
  }
  console.log(`\nWrote, flushed and read back ${WRITES} MiB: the same.`);
}

async function readAtRandom(disk: BlkDriver): Promise<void> {
  const { iops, failures } = await randomReads(disk, READS, DEPTH, READ_SIZE);
  if (failures > 0) throw new Error(`${failures} of ${READS} reads failed`);
  const rate = `${Math.round(iops / 1000)},000 a second, ${Math.round((iops * READ_SIZE) / 1024 ** 2)} MiB/s`;
  console.log(`Random reads of ${READ_SIZE / 1024} KiB, ${DEPTH} in flight: ${rate}.\n`);
}

/** Every MiB its own content. */
function pattern(i: number): Buffer {
  return Buffer.alloc(WRITE_SIZE, `vringd ${i} `);
}

function invitation(): string {
  const reconnect = reconnectOption(qemuVersion(INSTALLED_QEMU) ?? NEWEST_QEMU, 1);
  return `The disk is ready for a guest. It appears there as another virtio disk of 1 GiB.

QEMU:
  qemu-system-x86_64 -machine q35,accel=kvm:tcg,memory-backend=mem -m 1G \\
    -object memory-backend-memfd,id=mem,size=1G,share=on \\
    -drive file=YOUR-GUEST.qcow2,if=virtio \\
    -chardev socket,id=vringd,path=${socketPath},${reconnect} \\
    -device vhost-user-blk-pci,chardev=vringd,num-queues=1

(QEMU up to 9.1 takes reconnect=1, later ones reconnect-ms=1000.)

Cloud Hypervisor:
  cloud-hypervisor --cpus boot=1 --memory size=1G,shared=on \\
    --kernel YOUR-KERNEL --cmdline "root=/dev/vda1 console=hvc0" \\
    --disk path=YOUR-GUEST.raw \\
      vhost_user=true,socket=${socketPath},num_queues=1,queue_size=128

Ctrl-C ends it and removes the scratch disk.`;
}

await main();
