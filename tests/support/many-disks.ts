// A daemon that serves several disks from a file, each with an image, an entrance and a control socket of its own.
import { existsSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import type { MemberStatus } from "../../host/observability/members.ts";
import { ask, type Reply } from "./observed.ts";
import { Vringd, type VringdOptions } from "./vringd.ts";

const IMAGE_SIZE = 8 << 20;
/** Where tools look below $XDG_RUNTIME_DIR. */
const CONTROL_DIRECTORY = "vringd";

export interface DiskSpec {
  name: string;
  socket: string;
  "blk-file": string;
  [option: string]: unknown;
}

export class ManyDisks {
  private constructor(
    readonly daemon: Vringd,
    readonly directory: string,
  ) {}

  static async start(names: readonly string[], options: VringdOptions = {}): Promise<ManyDisks> {
    const deviceArgs = (directory: string) => {
      mkdirSync(join(directory, CONTROL_DIRECTORY), { recursive: true });
      // A start anew goes by what is there by then.
      if (!existsSync(join(directory, "disks.json"))) {
        const disks = names.map((name) => makeDisk(directory, name));
        writeFileSync(join(directory, "disks.json"), JSON.stringify({ disks }));
      }
      return [
        `--config=${join(directory, "disks.json")}`,
        `--control-socket=${join(directory, CONTROL_DIRECTORY, "vms.control")}`,
      ];
    };
    const daemon = await Vringd.start({ deviceArgs, ...options });
    return new ManyDisks(daemon, daemon.directory);
  }

  get configPath(): string {
    return join(this.directory, "disks.json");
  }

  /** Of the process. */
  get control(): string {
    return join(this.directory, CONTROL_DIRECTORY, "vms.control");
  }

  controlOf(name: string): string {
    return join(this.directory, CONTROL_DIRECTORY, `vms-${name}.control`);
  }

  imageOf(name: string): string {
    return imageIn(this.directory, name);
  }

  socketOf(name: string): string {
    return join(this.directory, `${name}.sock`);
  }

  /** With a new image. */
  disk(name: string, more: object = {}): DiskSpec {
    return { ...makeDisk(this.directory, name), ...more };
  }

  connect(name: string, options?: FrontEndOptions): Promise<FrontEnd> {
    return FrontEnd.connect(this.socketOf(name), options);
  }

  ask(method: string, path: string, body?: unknown): Promise<Reply> {
    return ask(this.control, method, path, body === undefined ? undefined : JSON.stringify(body));
  }

  add(disk: DiskSpec): Promise<Reply> {
    return this.ask("POST", "/v1/disks", disk);
  }

  remove(name: string, query = ""): Promise<Reply> {
    return this.ask("DELETE", `/v1/disks/${name}${query}`);
  }

  async list(): Promise<MemberStatus[]> {
    return JSON.parse((await this.ask("GET", "/v1/disks")).text).disks;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
  }
}

function imageIn(directory: string, name: string): string {
  return join(directory, `${name}.img`);
}

function makeDisk(directory: string, name: string): DiskSpec {
  const image = imageIn(directory, name);
  writeFileSync(image, "");
  truncateSync(image, IMAGE_SIZE);
  return { name, socket: join(directory, `${name}.sock`), "blk-file": image };
}
