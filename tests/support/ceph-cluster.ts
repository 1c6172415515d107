// A Ceph cluster on the loopback, of one monitor and as many OSDs as a test wants, all in one directory: it ends with its test.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomInt, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { CephKeys } from "./ceph-keys.ts";
import { freePort } from "./free-port.ts";
import { whyNoProgram } from "./skip.ts";
import { memoryDirectory } from "./vringd.ts";

export interface CephOptions {
  /** "bluestore" keeps what it has when its OSD is killed. */
  store?: "memstore" | "bluestore";
  /** Lines for ceph.conf's sections. */
  client?: readonly string[];
  osd?: readonly string[];
  /** With as many replicas of everything, of which two must be there for a write. Left out: 1. */
  osds?: number;
  /** Users and daemons have keys (cephx); else nobody is asked for one. */
  cephx?: boolean;
  /** A command that its daemons run under, such as taskset. It must become the daemon. */
  under?: readonly string[];
}

export type CephDaemon = "mon" | `osd.${number}`;

/** A busy machine takes its time. */
const READY_MS = 600_000;
const COMMAND_MS = 300_000;
/** Below the ports that the kernel gives to whoever asks for any. */
const PORTS = { first: 20_000, last: 32_000, each: 40 };

const exec = promisify(execFile);
const live = new Set<CephCluster>();
process.on("exit", () => {
  for (const cluster of live) cluster.abandon();
});

/** Undefined if all is here that a cluster takes. */
export function cephUnavailable(): string | undefined {
  return whyNoProgram("ceph-mon", "ceph-osd", "ceph", "rbd", "monmaptool");
}

/** Should our own process be killed, the daemons must die with it. */
const guard = ["setpriv", "--pdeathsig", "KILL"];

export class CephCluster {
  readonly confPath: string;
  private readonly daemons = new Map<CephDaemon, ChildProcess>();

  private constructor(
    readonly directory: string,
    readonly monitor: string,
    private readonly under: readonly string[],
    private readonly keys: CephKeys | undefined,
  ) {
    this.confPath = join(directory, "ceph.conf");
  }

  /** Resolves once the pool "rbd" takes requests. */
  static async start(options: CephOptions = {}): Promise<CephCluster> {
    const directory = mkdtempSync(join(memoryDirectory(), "vringd-ceph-"));
    const keys = options.cephx ? new CephKeys(directory) : undefined;
    const monitor = `127.0.0.1:${await freePort()}`;
    const cluster = new CephCluster(directory, monitor, options.under ?? [], keys);
    live.add(cluster);
    try {
      const fsid = randomUUID();
      for (const name of ["mon", "run"]) mkdirSync(join(directory, name));
      writeFileSync(cluster.confPath, confOf(cluster, fsid, keys, options));
      await cluster.makeMonitor(fsid);
      await cluster.makeOsds(options.osds ?? 1);
      await cluster.ceph("osd", "pool", "create", "rbd", "8");
      await cluster.ceph("osd", "pool", "application", "enable", "rbd", "rbd");
      await cluster.rbd("ls");
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What a client needs to find it. */
  get env(): Record<string, string> {
    return { CEPH_CONF: this.confPath };
  }

  ceph(...args: readonly string[]): Promise<string> {
    return this.run("ceph", args);
  }

  rbd(...args: readonly string[]): Promise<string> {
    return this.run("rbd", args);
  }

  /** What the image, or a snapshot of it, holds. */
  async exported(image: string): Promise<Buffer> {
    const command = ["export", "--no-progress", image, "-"];
    const { stdout } = await exec("rbd", command, { ...this.how(), encoding: "buffer", maxBuffer: 1 << 30 });
    return stdout as unknown as Buffer;
  }

  /** A client of Ceph's own that goes on until it is ended. */
  spawn(program: string, ...args: readonly string[]): ChildProcess {
    const [first, ...rest] = [...guard, program, ...args];
    return spawn(first!, rest, { stdio: "ignore", env: { ...process.env, ...this.env } });
  }

  async kill(daemon: CephDaemon): Promise<void> {
    await this.end(daemon, "SIGKILL");
  }

  signal(daemon: CephDaemon, signal: "SIGSTOP" | "SIGCONT"): void {
    this.daemons.get(daemon)!.kill(signal);
  }

  startDaemon(daemon: CephDaemon): void {
    const [type, id] = daemon === "mon" ? ["mon", "a"] : daemon.split(".");
    const [program, ...args] = [...this.under, `ceph-${type}`, "-f", "-i", id!];
    this.daemons.set(daemon, this.spawn(program!, ...args));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The monitor last: OSDs that have none wait for it.
    for (const daemon of [...this.daemons.keys()].reverse()) await this.end(daemon, "SIGKILL");
    this.abandon();
  }

  /** Ends it without waiting. */
  abandon(): void {
    live.delete(this);
    for (const child of this.daemons.values()) child.kill("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async end(daemon: CephDaemon, signal: NodeJS.Signals): Promise<void> {
    const child = this.daemons.get(daemon);
    this.daemons.delete(daemon);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  private async makeMonitor(fsid: string): Promise<void> {
    const monmap = join(this.directory, "monmap");
    const address = `[v2:${this.monitor}]`;
    await this.run("monmaptool", ["--create", "--fsid", fsid, "--addv", "a", address, monmap]);
    const keyring = this.keys ? ["--keyring", this.keys.forMonitor()] : [];
    await this.run("ceph-mon", ["-i", "a", "--mkfs", "--monmap", monmap, ...keyring]);
    this.startDaemon("mon");
    await this.ceph("health");
  }

  private async makeOsds(count: number): Promise<void> {
    for (let id = 0; id < count; id++) {
      const uuid = randomUUID();
      await this.ceph("osd", "new", uuid);
      const data = join(this.directory, `osd.${id}`);
      mkdirSync(data);
      if (this.keys) {
        const caps = ["mon", "allow profile osd", "osd", "allow *"];
        await this.ceph("auth", "get-or-create", `osd.${id}`, ...caps, "-o", join(data, "keyring"));
      }
      await this.run("ceph-osd", ["-i", String(id), "--mkfs", "--osd-uuid", uuid]);
      this.startDaemon(`osd.${id}`);
    }
    await this.untilUp(count);
  }

  /** Resolves when so many OSDs serve. */
  async untilUp(count: number): Promise<void> {
    const end = performance.now() + READY_MS;
    while (performance.now() < end)
      if (new RegExp(`\\b${count} up\\b`).test(await this.ceph("osd", "stat"))) return;
    throw new Error("the cluster's OSDs do not come up");
  }

  private how() {
    return { timeout: COMMAND_MS, env: { ...process.env, ...this.env } };
  }

  private async run(program: string, args: readonly string[]): Promise<string> {
    const { stdout } = await exec(program, [...args], this.how());
    return stdout;
  }
}

function confOf(
  { directory, monitor }: CephCluster,
  fsid: string,
  keys: CephKeys | undefined,
  { store = "memstore", client = [], osd = [], osds = 1 }: CephOptions,
): string {
  const auth = keys === undefined ? "none" : "cephx";
  const firstPort = PORTS.first + PORTS.each * randomInt((PORTS.last - PORTS.first) / PORTS.each);
  return `[global]
fsid = ${fsid}
mon_host = [v2:${monitor}]
auth_cluster_required = ${auth}
auth_service_required = ${auth}
auth_client_required = ${auth}
${keys === undefined ? "keyring = /dev/null" : ""}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_port_min = ${firstPort}
ms_bind_port_max = ${firstPort + PORTS.each - 1}
run_dir = ${join(directory, "run")}
admin_socket = ${join(directory, "run", "$name.$pid.asok")}
log_file = ${join(directory, "$name.log")}
pid_file = ${join(directory, "run", "$name.pid")}
mon_data = ${join(directory, "mon")}
mon_data_avail_warn = 1
mon_data_avail_crit = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_data = ${join(directory, "osd.$id")}
osd_pool_default_size = ${osds}
osd_pool_default_min_size = ${Math.ceil(osds / 2)}
osd_crush_chooseleaf_type = 0
osd_objectstore = ${store}
memstore_device_bytes = ${4 * 2 ** 30}
bluestore_block_size = ${4 * 2 ** 30}
${osd.join("\n")}
[client]
${keys === undefined ? "" : `keyring = ${keys.path}`}
admin_socket =
log_file =
${client.join("\n")}
`;
}
