// Images on a cluster that tests share, and daemons that serve them, with a directory of their own for what daemons remember.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CephCluster, type CephOptions } from "./ceph-cluster.ts";
import { type StartAttempt, tryToStart } from "./start-attempt.ts";
import { Vringd, type VringdOptions } from "./vringd.ts";

export class RbdRig {
  private images = 0;

  private constructor(
    readonly cluster: CephCluster,
    private readonly directory: string,
  ) {}

  static async start(options: CephOptions = {}): Promise<RbdRig> {
    return new RbdRig(await CephCluster.start(options), mkdtempSync(join(tmpdir(), "vringd-state-")));
  }

  /** A new image, as in "rbd/disk1". */
  async makeImage(megabytes = 16, ...args: readonly string[]): Promise<string> {
    const image = `rbd/disk${++this.images}`;
    await this.cluster.rbd("create", "--size", `${megabytes}M`, ...args, image);
    return image;
  }

  /** `more`: parameters beside the configuration. */
  uri(image: string, more: Readonly<Record<string, string>> = {}): string {
    const parameters = Object.entries({ conf: this.cluster.confPath, ...more });
    return `rbd:${image}?${parameters.map((pair) => pair.join("=")).join("&")}`;
  }

  /** The URI by which a new user with these caps reaches the image, on a cluster with keys. */
  async asUser(image: string, name: string, caps: readonly string[]): Promise<string> {
    const keyring = join(this.cluster.directory, `${name}.keyring`);
    await this.cluster.ceph("auth", "get-or-create", `client.${name}`, ...caps, "-o", keyring);
    return this.uri(image, { id: name, keyring });
  }

  /** `host`: daemons of one host remember together who has a lock. */
  options(image: string, args: readonly string[] = [], host = "one"): VringdOptions {
    return { blkFile: this.uri(image), args, env: this.env(host) };
  }

  serve(image: string, ...args: readonly string[]): Promise<Vringd> {
    return Vringd.start(this.options(image, args));
  }

  env(host = "one"): Record<string, string> {
    return { STATE_DIRECTORY: join(this.directory, host) };
  }

  /** One line says why, for whoever may know nothing of Ceph. */
  isRefused(uri: string, reason: RegExp, args: readonly string[] = [], env = {}): StartAttempt {
    const attempt = tryToStart([`--blk-file=${uri}`, "--log-level=error", ...args], {
      env: { ...this.env(), ...env },
    });
    assert.equal(attempt.status, 1, attempt.stderr);
    const lines = attempt.stderr.trimEnd().split("\n");
    assert.equal(lines.length, 1, attempt.stderr);
    assert.match(lines[0]!, /^vringd-blk: can't use rbd:/);
    assert.match(lines[0]!, reason);
    return attempt;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
