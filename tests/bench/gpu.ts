// `npm run bench -- --grid gpu`: pictures of 1280x720 a second, each a transfer and a flush of all of it, and the processor time that
// one takes: at our own front-end, shown to nobody, to a front-end's display and to a viewer; and in a guest that has both
// vhost-user-gpu and QEMU's own virtio-gpu, turn by turn.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM } from "../../assembly/spec/virtio-gpu.ts";
import { processTimeNs } from "../support/cpu-clock.ts";
import { startGpu } from "../support/gpu-daemon.ts";
import { DisplayPeer } from "../support/gpu-display.ts";
import { connectGpu, GpuDriver } from "../support/gpu-driver.ts";
import {
  type Qemu,
  type QemuGuest,
  qemuUnavailable,
  SID_QEMU,
  startQemuGuest,
  TRIXIE_QEMU,
  withGenericKernel,
} from "../support/guest.ts";
import { makeProjectImage } from "../support/guest-project.ts";
import { Random } from "../support/random.ts";
import { startView } from "../support/view.ts";
import type { Vringd } from "../support/vringd.ts";
import { describeMachine } from "./machine.ts";
import { spreadOf } from "./statistics.ts";

const [WIDTH, HEIGHT] = [1280, 720];
const ALL = { x: 0, y: 0, width: WIDTH, height: HEIGHT };
const RESOURCE = 1;
const WARM_UP_FRAMES = 30;
const STEP_MS = 600_000;

interface Rounds {
  rounds: number;
  seconds: number;
}

/** Pictures a second, and milliseconds of processor time for each: the daemon's, and with a guest QEMU's, too. */
interface Figures {
  rates: number[];
  processorMs: number[];
}

const SHOWN_TO = ["nobody", "a front-end's display", "a viewer"] as const;
/** In the order in which QEMU gets them. */
const CARDS = ["vringd-gpu", "QEMU's virtio-gpu"] as const;

export async function measureGraphics(rounds: Rounds): Promise<void> {
  console.log(JSON.stringify(describeMachine()));
  await withoutGuest(rounds);
  for (const qemu of [TRIXIE_QEMU, SID_QEMU].map(withGenericKernel)) {
    const lack = qemuUnavailable(qemu);
    if (lack === undefined) await inGuest(qemu, rounds);
    else console.log(`left out: ${lack}`);
  }
}

async function withoutGuest({ rounds, seconds }: Rounds): Promise<void> {
  const figures = SHOWN_TO.map((): Figures => ({ rates: [], processorMs: [] }));
  for (let round = 0; round <= rounds; round++)
    for (const [i, shownTo] of SHOWN_TO.entries()) {
      const [rate, processorMs] = await one(shownTo, seconds);
      // The first one is to warm up.
      if (round > 0) add(figures[i]!, rate, processorMs);
    }
  console.log("\nAt our own front-end:");
  for (const [i, shownTo] of SHOWN_TO.entries()) tell(`shown to ${shownTo}`, figures[i]!);
}

async function one(shownTo: (typeof SHOWN_TO)[number], seconds: number): Promise<[number, number]> {
  await using daemon = await startGpu(...(shownTo === "a front-end's display" ? [] : ["--headless"]));
  await using frontEnd = await connectGpu(daemon.socketPath);
  const driver = new GpuDriver(frontEnd);
  const pixels = new Random(1).bytes(WIDTH * HEIGHT * 4);
  await driver.draw(RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, WIDTH, HEIGHT, pixels);
  await driver.show(0, RESOURCE, ALL);
  const leave = await watch(shownTo, driver, daemon);
  try {
    const draw = async () => {
      await driver.transfer(RESOURCE, ALL);
      await driver.flush(RESOURCE, ALL);
    };
    for (let i = 0; i < WARM_UP_FRAMES; i++) await draw();
    const [begin, before] = [performance.now(), processTimeNs(daemon.pid)];
    let count = 0;
    for (; performance.now() < begin + seconds * 1000; count++) await draw();
    const elapsed = (performance.now() - begin) / 1000;
    return [count / elapsed, (processTimeNs(daemon.pid) - before) / 1e6 / count];
  } finally {
    await leave();
  }
}

/** Returns what ends it. */
async function watch(
  shownTo: (typeof SHOWN_TO)[number],
  driver: GpuDriver,
  daemon: Vringd,
): Promise<() => Promise<void>> {
  if (shownTo === "a front-end's display") {
    const display = await DisplayPeer.attach(driver.frontEnd);
    return async () => display.close();
  }
  if (shownTo === "nobody") return async () => {};
  const view = await startView(daemon);
  let isOver = false;
  const watching = (async () => {
    for (let version = 0; !isOver; ) ({ version } = (await view.changeSince(version)).head);
  })();
  return async () => {
    isOver = true;
    await driver.flush(RESOURCE, ALL);
    await watching;
    await view[Symbol.asyncDispose]();
  };
}

async function inGuest(qemu: Qemu, { rounds, seconds }: Rounds): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-bench-"));
  try {
    const imagePath = join(directory, "project.img");
    makeProjectImage(imagePath, ["drm-in-guest"]);
    await using daemon = await startGpu();
    await using guest = await startQemuGuest({
      qemu,
      imagePath,
      script: script(rounds, seconds),
      programs: ["node"],
      modules: ["virtio_gpu", "crc32c_generic"],
      memoryMiB: 1536,
      extraArgs: [
        ["-chardev", `socket,id=ours,path=${daemon.socketPath}`],
        ["-device", `vhost-user-gpu-pci,chardev=ours,xres=${WIDTH},yres=${HEIGHT}`],
        ["-device", `virtio-gpu-pci,xres=${WIDTH},yres=${HEIGHT}`],
      ].flat(),
      timeoutMs: STEP_MS * 3,
    });
    const figures = await follow(guest, daemon, rounds, seconds);
    console.log(`\nIn a guest of QEMU of ${qemu.owner}:`);
    for (const [i, card] of CARDS.entries()) tell(card, figures[i]!);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** One round of each to warm up, and then those that count. */
async function follow(guest: QemuGuest, daemon: Vringd, rounds: number, seconds: number): Promise<Figures[]> {
  const figures = CARDS.map((): Figures => ({ rates: [], processorMs: [] }));
  for (let round = 0; round <= rounds; round++)
    for (const [i] of CARDS.entries()) {
      await guest.waitForReport(`BEGUN_${round}_${i}`, STEP_MS);
      const before = processTimeNs(daemon.pid) + processTimeNs(guest.pid);
      const begin = performance.now();
      // Of the seconds in the middle: the guest's program measures for longer.
      await sleep(seconds * 1000);
      const elapsed = (performance.now() - begin) / 1000;
      const processorMs = (processTimeNs(daemon.pid) + processTimeNs(guest.pid) - before) / 1e6;
      const rate = Number(await guest.waitForReport(`RATE_${round}_${i}`, STEP_MS));
      if (round > 0) add(figures[i]!, rate, processorMs / (rate * elapsed));
    }
  const { ok, console } = await guest.exit();
  if (!ok) throw new Error(console);
  return figures;
}

function script(rounds: number, seconds: number): string {
  return `
mkdir -p project
mount -t ext4 -o ro "$DISK" project
until [ -c /dev/dri/card1 ]; do sleep 0.1; done
for console in /sys/class/vtconsole/vtcon*/bind; do echo 0 > $console || true; done
for round in $(seq 0 ${rounds}); do
  for card in 0 1; do
    node project/build/tests/drm-in-guest.mjs frames /dev/dri/card$card ${seconds * 1.5} BEGUN_\${round}_$card > said
    report RATE_\${round}_$card "$(cat said)"
  done
done
`;
}

function add(figures: Figures, rate: number, processorMs: number): void {
  figures.rates.push(rate);
  figures.processorMs.push(processorMs);
}

function tell(what: string, { rates, processorMs }: Figures): void {
  const [rate, time] = [spreadOf(rates), spreadOf(processorMs)];
  const range = ({ min, max }: { min: number; max: number }, digits: number) =>
    `(${min.toFixed(digits)} to ${max.toFixed(digits)})`;
  console.log(
    `${what.padEnd(32)} ${rate.median.toFixed(0).padStart(6)} a second ${range(rate, 0)}, ` +
      `${time.median.toFixed(2)} ms of processor time each ${range(time, 2)}`,
  );
}
