// A base with an overlay over it, in a directory of their own, and what a guest sees of the two.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OverlayDisk } from "vringd";

export class OverlayRig implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  readonly base = this.at("base.img");
  readonly path = this.at("changes");
  /** What the base held to begin with. */
  readonly before: Buffer;
  readonly shown: Buffer;
  private disk: OverlayDisk | undefined;

  private constructor(byteLength: number) {
    this.before = Buffer.alloc(byteLength, "base");
    this.shown = Buffer.from(this.before);
    writeFileSync(this.base, this.before);
  }

  /** The overlay has every other 64 KiB, of which every fourth is zeroes. */
  static async make(byteLength: number): Promise<OverlayRig> {
    const rig = new OverlayRig(byteLength);
    for (let at = 0; at < byteLength; at += RUN_BYTES * 2) {
      const length = Math.min(RUN_BYTES, byteLength - at);
      await rig.write(at, Buffer.alloc(length, (at / RUN_BYTES) % 8 === 0 ? "" : `own ${at}`));
    }
    await rig.end();
    return rig;
  }

  at(name: string): string {
    return join(this.directory, name);
  }

  /** As a guest. */
  async write(at: number, bytes: Buffer): Promise<void> {
    this.disk ??= await OverlayDisk.open({ path: this.path, base: this.base });
    await this.disk.write(BigInt(at), [bytes]);
    bytes.copy(this.shown, at);
  }

  async end(): Promise<void> {
    await this.disk?.close();
    this.disk = undefined;
  }

  holdsBase(): Buffer {
    return readFileSync(this.base);
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

const RUN_BYTES = 64 << 10;
