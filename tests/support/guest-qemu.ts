// Guests of QEMU: Debian's own kernel on an emulated PC, with the disk as a vhost-user-blk-pci device, or another device.
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DISK } from "./guest-device.ts";
import { buildInitramfs, imageUnavailable } from "./guest-image.ts";
import {
  DEFAULT_MEMORY_MIB,
  type GuestOptions,
  GuestProcess,
  type GuestResult,
  type Launch,
  makeGuestDirectory,
} from "./guest-process.ts";
import {
  INSTALLED_QEMU,
  type Qemu,
  type QemuVersion,
  qemuVersion,
  reconnectOption,
} from "./qemu-releases.ts";

const MAX_CPUS = 4;
/**
 * The second line saves a third of the boot time under emulation. The third has every processor's timer tick: on a busy host an emulated
 * processor that is halted now and then misses the interrupt that is to wake it (`info lapic` has the timer's vector in IRR,
 * `info registers` has HLT=1), and a timer that is set for one event alone gives it no other chance.
 */
const KERNEL_ARGUMENTS =
  "console=ttyS0 quiet printk.devkmsg=on panic=-1 " +
  "mitigations=off nokaslr edd=off tsc=reliable no_timer_check cryptomgr.notests " +
  "nohz=off highres=off";

export interface QemuGuestOptions extends Omit<GuestOptions, "socketPath"> {
  /** Where the vhost-user-blk back-end listens. Left out: QEMU itself serves the disk, from imagePath. */
  socketPath?: string;
  imagePath?: string;
  /** For devices of extraArgs. */
  modules?: readonly string[];
  /** Modules that the script loads itself, with parameters: /unloaded/NAME.ko. */
  unloadedModules?: readonly string[];
  /** This machine's own unless told otherwise. */
  qemu?: Qemu;
  packed?: boolean;
  queues?: number;
  queueSize?: number;
  /** Connects again, this long after the back-end went away; without it QEMU does not come back. */
  reconnectSeconds?: number;
  /** QEMU listens, and the back-end connects. */
  isServer?: boolean;
  /** Further properties of the device, such as "discard=off,config-wce=off". */
  deviceProperties?: string;
  /** For a device other than a disk: QEMU's front-end for devices of any kind. */
  testDevice?: TestDevice;
  extraArgs?: readonly string[];
}

/** vhost-user-test-device-pci, which QEMU has since 10.2. */
export interface TestDevice {
  queues: number;
  queueSize: number;
  configSize: number;
}

/** The reason why startQemuGuest cannot work here. */
export function qemuUnavailable(qemu = INSTALLED_QEMU): string | undefined {
  const isWhole = qemuVersion(qemu) !== undefined && qemu.findKernel() !== undefined;
  return isWhole ? imageUnavailable() : `no QEMU of ${qemu.owner} with its kernel: ${qemu.recipe}`;
}

export async function runQemuGuest(options: QemuGuestOptions): Promise<GuestResult> {
  const guest = await startQemuGuest(options);
  return guest.exit();
}

/** Gives the guest as soon as QEMU is started; what goes on in it, waitFor tells. */
export async function startQemuGuest(options: QemuGuestOptions): Promise<QemuGuest> {
  const { qemu = INSTALLED_QEMU, timeoutMs } = options;
  const version = qemuVersion(qemu);
  const kernel = qemu.findKernel();
  if (version === undefined || kernel === undefined) throw new Error(qemuUnavailable(qemu));
  const directory = makeGuestDirectory();
  const modules = ["virtio_pci", ...(options.modules ?? [])];
  const initramfs = buildInitramfs({ ...options, modulesDirectory: kernel.modulesDirectory, modules });
  writeFileSync(join(directory, "initramfs"), initramfs);

  const monitor = await QmpMonitor.listen(join(directory, "qmp"));
  const [command, ...before] = qemu.command as [string, ...string[]];
  const args = [...before, ...qemuArguments(options, version, kernel.path, directory)];
  return new QemuGuest({ command, args, directory, timeoutMs }, monitor);
}

interface PromiseSettler {
  resolve(value: unknown): void;
  reject(reason: Error): void;
}

export class QemuGuest extends GuestProcess {
  readonly #monitor: QmpMonitor;

  constructor(launch: Launch, monitor: QmpMonitor) {
    super(launch);
    this.#monitor = monitor;
    void this.ended.then(() => monitor.close());
  }

  qmp(command: string, args?: Record<string, unknown>): Promise<unknown> {
    return this.#monitor.execute(command, args);
  }

  /** Resets the machine, and waits until it has booted and runs the script again. */
  async reset(): Promise<void> {
    // -no-reboot, by which a panic ends QEMU at once, is off until then: SeaBIOS answers a reset with one more.
    await this.qmp("set-action", { reboot: "reset" });
    await this.qmp("system_reset");
    this.skipConsole();
    await this.waitForScript();
    await this.qmp("set-action", { reboot: "shutdown" });
  }
}

/** QEMU connects to us: there is no moment at which its socket does not exist yet. */
class QmpMonitor {
  readonly #server: Server;
  readonly #connected: Promise<Socket>;
  readonly #closing = new AbortController();
  readonly #pending: PromiseSettler[] = [];

  static async listen(path: string): Promise<QmpMonitor> {
    const server = createServer().listen(path);
    await once(server, "listening");
    return new QmpMonitor(server);
  }

  constructor(server: Server) {
    this.#server = server;
    this.#connected = once(server, "connection", { signal: this.#closing.signal }).then(([socket]) => {
      // QEMU that is killed resets the connection; close() answers who still waits.
      const ignore = () => {};
      createInterface(socket.on("error", ignore))
        .on("error", ignore)
        .on("line", (line) => this.#receive(line));
      // Before any other command, also one that somebody waits to give.
      this.#send(socket, "qmp_capabilities").catch(ignore);
      return socket;
    });
    this.#connected.catch(() => {});
  }

  async execute(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const socket = await this.#connected;
    if (this.#closing.signal.aborted) throw new Error(`QEMU has ended: no ${command}.`);
    return this.#send(socket, command, args);
  }

  #send(socket: Socket, command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    socket.write(JSON.stringify({ execute: command, arguments: args }));
    return new Promise((resolve, reject) => this.#pending.push({ resolve, reject }));
  }

  close(): void {
    this.#closing.abort();
    this.#server.close();
    for (const { reject } of this.#pending.splice(0)) reject(new Error("QEMU ended before it answered."));
  }

  /** Answers come in the order of the commands; the greeting and events have neither member. */
  #receive(line: string): void {
    const message = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
    if (message.error !== undefined) this.#pending.shift()?.reject(new Error(message.error.desc));
    else if ("return" in message) this.#pending.shift()?.resolve(message.return);
  }
}

function qemuArguments(
  options: QemuGuestOptions,
  version: QemuVersion,
  kernelPath: string,
  directory: string,
): string[] {
  const { queues = 1, memoryMiB = DEFAULT_MEMORY_MIB, kernelArguments = [] } = options;
  return [
    ["-no-user-config", "-nodefaults", "-no-reboot"],
    ["-display", "none"],
    ["-serial", "stdio"],
    ["-machine", "q35,memory-backend=memory"],
    ["-accel", process.env.VRINGD_GUEST_ACCEL ?? "tcg"],
    ["-cpu", cpuModel(version)],
    // Linux uses no more queues than it has processors.
    ["-smp", String(Math.min(queues, MAX_CPUS))],
    ["-m", `${memoryMiB}M`],
    ["-object", `memory-backend-memfd,id=memory,size=${memoryMiB}M,share=on`],
    ["-chardev", `socket,id=monitor,path=${join(directory, "qmp")}`],
    ["-mon", "chardev=monitor,mode=control"],
    deviceArguments(options, version),
    ["-kernel", kernelPath],
    ["-initrd", join(directory, "initramfs")],
    ["-append", [KERNEL_ARGUMENTS, ...kernelArguments].join(" ")],
    options.extraArgs ?? [],
  ].flat();
}

function deviceArguments(options: QemuGuestOptions, version: QemuVersion): string[] {
  const { socketPath, imagePath } = options;
  if (socketPath === undefined)
    return ["-drive", `file=${imagePath},format=raw,if=none,id=disk`, "-device", "virtio-blk-pci,drive=disk"];
  return ["-chardev", chardevOf(options, version), "-device", deviceOf(options)];
}

function chardevOf(
  { socketPath, isServer, reconnectSeconds }: QemuGuestOptions,
  version: QemuVersion,
): string {
  const chardev = ["socket", "id=backend", `path=${socketPath}`];
  if (isServer) chardev.push("server=on", "wait=off");
  if (reconnectSeconds !== undefined) chardev.push(reconnectOption(version, reconnectSeconds));
  return chardev.join();
}

function deviceOf(options: QemuGuestOptions): string {
  const { device = DISK, testDevice, queues = 1, packed, queueSize, deviceProperties } = options;
  const properties = [
    device.frontEnd ?? `vhost-user-blk-pci,num-queues=${queues},packed=${packed ? "on" : "off"}`,
  ];
  if (testDevice) {
    const { virtioId } = device;
    properties[0] = `vhost-user-test-device-pci,virtio-id=${virtioId},num_vqs=${testDevice.queues}`;
    properties.push(`vq_size=${testDevice.queueSize},config_size=${testDevice.configSize}`);
  }
  if (queueSize !== undefined) properties.push(`queue-size=${queueSize}`);
  if (deviceProperties !== undefined) properties.push(deviceProperties);
  return [...properties, "chardev=backend"].join();
}

/** QEMU 7.2 emulates cmpxchg16b wrongly with more than one CPU, and kernels since 6.2 allocate memory by it. */
function cpuModel([major]: QemuVersion): string {
  return major < 8 ? "qemu64,-cx16" : "max";
}
