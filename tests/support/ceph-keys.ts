// The keys of a Ceph cluster of a test's: the administrator's, and the monitor's.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export class CephKeys {
  /** The administrator's keyring. */
  readonly path: string;
  private readonly admin = newKey();

  constructor(private readonly directory: string) {
    this.path = join(directory, "admin.keyring");
    writeFileSync(this.path, this.adminEntry);
  }

  /** What the monitor is made with. */
  forMonitor(): string {
    const path = join(this.directory, "mon.keyring");
    writeFileSync(path, `[mon.]\nkey = ${newKey()}\ncaps mon = "allow *"\n${this.adminEntry}`);
    return path;
  }

  private get adminEntry(): string {
    const caps = ["mon", "osd", "mgr", "mds"].map((daemon) => `caps ${daemon} = "allow *"`);
    return `[client.admin]\nkey = ${this.admin}\n${caps.join("\n")}\n`;
  }
}

/** As ceph-authtool makes one: type (AES), time of birth, length, and the secret. */
export function newKey(): string {
  const secret = randomBytes(16);
  const header = Buffer.alloc(12);
  header.writeUInt16LE(1, 0);
  header.writeUInt32LE(Math.floor(Date.now() / 1000), 2);
  header.writeUInt16LE(secret.length, 10);
  return Buffer.concat([header, secret]).toString("base64");
}
