// A console with a control socket, and a front-end at its rings: in this process, or as the program vringd-console.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { serve } from "vringd";
import {
  VIRTIO_CONSOLE_DEVICE_READY as DEVICE_READY,
  VIRTIO_CONSOLE_F_MULTIPORT as MULTIPORT,
  VIRTIO_CONSOLE_PORT_OPEN as PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY as PORT_READY,
} from "../../assembly/spec/virtio-console.ts";
import { ConsoleDevice } from "../../host/devices/console/device.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { controlRoutes, TERMINAL_PATH } from "../../host/observability/control.ts";
import { closeNow, createBoundedServer } from "../../host/observability/http-server.ts";
import type { Subject } from "../../host/observability/subject.ts";
import { Terminals } from "../../host/observability/terminals.ts";
import { SILENT } from "../../host/process/log.ts";
import { namedTarget } from "../../host/streams/target.ts";
import { ChainDriver, connectDevice } from "./chain-driver.ts";
import { until } from "./until.ts";
import { PROGRAM } from "./vringd.ts";

const CONSOLE = join(dirname(PROGRAM), "vringd-console.mjs");
/** As for other daemons: on a busy machine it takes its time. */
const START_TIMEOUT_MS = 60_000;

export interface ControlMessage {
  id: number;
  event: number;
  value: number;
  /** What follows. */
  rest: Buffer;
}

export abstract class ConsoleRig {
  readonly directory = mkdtempSync(join(tmpdir(), "vringd-console-"));
  readonly control = join(this.directory, "vm.control");
  readonly socketPath = join(this.directory, "vhost");
  frontEnd!: FrontEnd;
  /** Its lines. */
  log = "";
  private portCount = 0;

  protected abstract begin(ports: readonly string[]): Promise<void>;
  protected abstract finish(): Promise<void>;

  /** `ports`: as --port takes them; DIR is the rig's directory. */
  async open(ports: readonly string[]): Promise<this> {
    this.portCount = ports.length;
    const isMultiport = ports.length > 1;
    try {
      await this.begin(ports.map((port) => port.replace("DIR", this.directory)));
      this.frontEnd = await connectDevice(this.socketPath, {
        queues: isMultiport ? 2 + 2 * ports.length : 2,
        queueSize: 16,
        configSize: 12,
        bits: isMultiport ? [MULTIPORT] : [],
      });
      return this;
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The driver's end of a port. */
  port(id: number): { input: ChainDriver; output: ChainDriver } {
    const first = id === 0 ? 0 : 2 * id + 2;
    return {
      input: new ChainDriver(this.frontEnd, first),
      output: new ChainDriver(this.frontEnd, first + 1),
    };
  }

  /** Introduces itself as a driver, opens all ports, and returns how to hear the device's messages. */
  async openPorts(): Promise<() => Promise<ControlMessage>> {
    const toDevice = new ChainDriver(this.frontEnd, 3);
    const fromDevice = new ChainDriver(this.frontEnd, 2);
    const tell = async (id: number, event: number) => {
      const message = Buffer.alloc(8);
      message.writeUInt32LE(id, 0);
      message.writeUInt16LE(event, 4);
      message.writeUInt16LE(1, 6);
      await toDevice.exchange([message], []);
    };
    await tell(0, DEVICE_READY);
    for (let id = 0; id < this.portCount; id++) {
      await tell(id, PORT_READY);
      await tell(id, PORT_OPEN);
    }
    return async () => {
      // Until there is one, however long that takes.
      const { bytes } = await fromDevice.used(fromDevice.post([], [64]), START_TIMEOUT_MS);
      const [id, event, value] = [bytes.readUInt32LE(0), bytes.readUInt16LE(4), bytes.readUInt16LE(6)];
      return { id, event, value, rest: bytes.subarray(8) };
    };
  }

  async waitForLog(text: string): Promise<void> {
    await until(() => this.log.includes(text), `the log says ${text}: ${this.log}`, START_TIMEOUT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.frontEnd?.close();
    await this.finish();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export class ConsoleHere extends ConsoleRig {
  private server: { close(): Promise<void> } | undefined;
  private controlServer: Server | undefined;

  static start(...ports: string[]): Promise<ConsoleHere> {
    return new ConsoleHere().open(ports);
  }

  protected async begin(ports: readonly string[]): Promise<void> {
    const device = await ConsoleDevice.open(ports.map((port) => namedTarget.read(port)!));
    this.server = await serve({ device, socketPath: this.socketPath });
    const info = (_: unknown, sentence?: string) => {
      this.log += `${sentence}\n`;
    };
    const terminals = new Terminals(device, { ...SILENT, info });
    const nothing = {} as never;
    const subject = { backend: { device } } as unknown as Subject;
    const routes = controlRoutes(subject, nothing, nothing, nothing, terminals, nothing, () => {});
    this.controlServer = createBoundedServer(routes, SILENT, { [TERMINAL_PATH]: terminals.upgrade });
    await new Promise<void>((resolve) => this.controlServer!.listen(this.control, resolve));
  }

  protected async finish(): Promise<void> {
    if (this.controlServer) closeNow(this.controlServer);
    await this.server?.close();
  }
}

export class ConsoleDaemon extends ConsoleRig {
  private child: ChildProcess | undefined;
  private hasEnded = false;

  static start(...ports: string[]): Promise<ConsoleDaemon> {
    return new ConsoleDaemon().open(ports);
  }

  async kill(): Promise<void> {
    this.child!.kill("SIGKILL");
    await until(() => this.hasEnded, "the daemon has been killed");
  }

  get residentKiB(): number {
    return Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${this.child!.pid}/status`, "utf8"))![1]);
  }

  protected async begin(ports: readonly string[]): Promise<void> {
    const args = [`--socket-path=${this.socketPath}`, `--control-socket=${this.control}`];
    const command = [CONSOLE, ...args, ...ports.map((port) => `--port=${port}`)];
    this.child = spawn(process.execPath, command, { stdio: ["ignore", "ignore", "pipe"] });
    this.child.stderr!.on("data", (text) => {
      this.log += text;
    });
    this.child.once("close", () => {
      this.hasEnded = true;
    });
    const isDecided = () => this.log.includes(" ready ") || this.hasEnded;
    await until(isDecided, "the daemon is ready", START_TIMEOUT_MS);
    if (this.hasEnded) throw new Error(this.log);
  }

  protected async finish(): Promise<void> {
    if (this.child === undefined) return;
    if (!this.hasEnded) this.child.kill("SIGTERM");
    await until(() => this.hasEnded, "the daemon ends", START_TIMEOUT_MS);
  }
}
