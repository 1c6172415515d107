// Every device's program as tests start it. The list is the product's, so that a new device is among them; what it can't be
// started without stands here.
import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { valuesOf } from "../../host/command-line/from-options.ts";
import type { QueueSpec } from "../../host/devices/device.ts";
import type { AnyDevice } from "../../host/devices/engine-device.ts";
import { DEVICES } from "../../host/devices/index.ts";
import { SILENT } from "../../host/process/log.ts";
import { commandLineOf } from "../../host/programs/command-line.ts";
import { anyGpuRequest } from "./gpu-driver.ts";
import type { Random } from "./random.ts";
import { likelyBytes, SLOT } from "./ring-torment.ts";
import { PROGRAM, Vringd } from "./vringd.ts";
import { anyVsockPacket, vsockPeer } from "./vsock-peer.ts";

/** What a device meets on this machine, beside its guest. */
interface Surroundings {
  /** Options that the program can't do without; files that these name lie in the directory. */
  args?(directory: string): string[];
  /** Who may be at the device's host side: somebody who sends and reads, or somebody who never reads. */
  peer?(directory: string, reads: boolean): { close(): void };
  /** What the device may take for the beginning of a request, where that has more than little numbers. */
  request?(random: Random): Buffer;
}

const SURROUNDINGS: Readonly<Record<string, Surroundings>> = {
  block: {
    args: (directory) => [
      `--blk-file=${sparseFile(join(directory, "disk"), 1 << 20)}`,
      "--num-queues=2",
      "--threads=1",
    ],
  },
  console: {
    args: (directory) => ["console", "agent"].map((name) => `--port=${name}=unix:${join(directory, name)}`),
    peer(directory, reads) {
      const peers = ["console", "agent"].map((name) => talkTo(join(directory, name), reads));
      return { close: () => peers.forEach((peer) => void peer.destroy()) };
    },
  },
  gpu: { args: () => ["--max-memory=2M", "--resolution=64x48"], request: anyGpuRequest },
  gpio: { args: () => ["--lines=led,button,reset"] },
  i2c: {
    args: (directory) => [
      `--emulate=at24:0x50,file=${join(directory, "eeprom")},size=1024`,
      "--emulate=lm75:0x48,temperature=21.5",
    ],
  },
  input: {
    args: (directory) => ["--keyboard", `--events=${pipe(join(directory, "events"))}`],
    peer: (directory) => press(join(directory, "events")),
  },
  vsock: {
    args: (directory) => [`--uds-path=${join(directory, "uds")}`, "--max-connections=24"],
    peer: (directory, reads) => vsockPeer(join(directory, "uds"), reads),
    request: anyVsockPacket,
  },
};

/** By the type that description files have. */
export const DEVICE_TYPES = Object.keys(DEVICES);

export function argsOf(type: string, directory: string): string[] {
  return SURROUNDINGS[type]?.args?.(directory) ?? [];
}

/** Whether somebody can be at the host side of such a device. */
export function hasPeer(type: string): boolean {
  return SURROUNDINGS[type]?.peer !== undefined;
}

/** Undefined where nobody can be. */
export function peerOf(type: string, directory: string, reads: boolean): { close(): void } | undefined {
  return SURROUNDINGS[type]?.peer?.(directory, reads);
}

/** Bytes that such a device may take for requests. */
export function likelyFor(type: string): typeof likelyBytes {
  const request = SURROUNDINGS[type]?.request;
  if (request === undefined) return likelyBytes;
  return (random, byteLength) => {
    const bytes = likelyBytes(random, byteLength);
    for (let at = 0; at < byteLength; at += SLOT) if (random.below(4) > 0) request(random).copy(bytes, at);
    return bytes;
  };
}

/** The device as its program makes it, in this process. It is the caller's to close. */
export async function openDevice(type: string, directory: string): Promise<AnyDevice> {
  const program = await DEVICES[type]!();
  const entrance = `--socket-path=${join(directory, "unused")}`;
  const line = commandLineOf(program).exitOverride();
  const given = line.parse([...argsOf(type, directory), entrance], { from: "user" }).opts();
  const context = { stopping: new AbortController().signal, log: SILENT, ownSockets: [] };
  return program.open(valuesOf(program.options, given), context);
}

export interface DeviceSummary {
  readonly queues: readonly QueueSpec[];
  readonly features: bigint;
  readonly ignoredFeatures: bigint;
  /** Undefined: it has none. */
  readonly configBytes: number | undefined;
  readonly isConfigWritable: boolean;
}

/** What a device of this type says of itself. */
export async function summaryOf(type: string): Promise<DeviceSummary> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const device = await openDevice(type, directory);
    const { queues, features, ignoredFeatures = 0n, config } = device;
    await device.close?.();
    const isConfigWritable = config?.write !== undefined;
    return { queues, features, ignoredFeatures, configBytes: config?.byteLength, isConfigWritable };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A daemon that serves such a device. */
export async function startDevice(
  type: string,
  args: readonly string[] = [],
  under: readonly string[] = [],
): Promise<Vringd> {
  const { name } = await DEVICES[type]!();
  const program = [process.execPath, join(dirname(PROGRAM), `${name}.mjs`)];
  return Vringd.start({ program, args, under, deviceArgs: (directory) => argsOf(type, directory) });
}

function sparseFile(path: string, byteLength: number): string {
  if (!existsSync(path)) writeFileSync(path, "");
  truncateSync(path, byteLength);
  return path;
}

function pipe(path: string): string {
  if (!existsSync(path)) execFileSync("mkfifo", [path]);
  return path;
}

/** Presses a key, again and again, without waiting for anybody. */
function press(path: string): { close(): void } {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const group = ["EV_KEY KEY_A 1", "EV_SYN SYN_REPORT 0", "EV_KEY KEY_A 0", "EV_SYN SYN_REPORT 0"];
  const timer = setInterval(() => {
    try {
      writeSync(fd, `${group.join("\n")}\n`);
    } catch (error) {
      // The device has not taken what is there.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
  }, 5);
  let isClosed = false;
  return {
    close() {
      if (isClosed) return;
      isClosed = true;
      clearInterval(timer);
      closeSync(fd);
    },
  };
}

/** Goes away without a complaint when the device does. */
function talkTo(path: string, reads: boolean): Socket {
  const socket = connect(path);
  const timer = setInterval(() => socket.writableNeedDrain || socket.write("typed\n"), 5);
  socket.on("error", () => {}).once("close", () => clearInterval(timer));
  return reads ? socket.resume() : socket.pause();
}
