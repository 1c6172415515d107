// The disk: a few sectors, and what of them a power cut would take. Each write fills its sectors with one letter.
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { DISK_BYTES, DISK_SECTORS } from "./memory-map.ts";

export class Disk {
  readonly bytes = new Uint8Array(DISK_BYTES);
  /** Sectors that were written and not yet flushed. */
  readonly unstable = new Set<number>();

  read(offset: number, target: Uint8Array): void {
    target.set(this.bytes.subarray(offset, offset + target.length));
  }

  write(offset: number, source: Uint8Array): void {
    this.bytes.set(source, offset);
    this.touch(offset, source.length);
  }

  clear(offset: number, byteLength: number): void {
    this.bytes.fill(0, offset, offset + byteLength);
    this.touch(offset, byteLength);
  }

  flush(): void {
    this.unstable.clear();
  }

  /** What a sector holds: a letter, two where a short write has cut it, or nothing. */
  contents(sector: number): string {
    return letters(this.bytes.subarray(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE));
  }

  private touch(offset: number, byteLength: number): void {
    const last = Math.min(DISK_SECTORS, Math.ceil((offset + byteLength) / SECTOR_SIZE));
    for (let sector = Math.floor(offset / SECTOR_SIZE); sector < last; sector++) this.unstable.add(sector);
  }
}

/** The letters that bytes are made of, in order; "·" for zeroes. */
export function letters(bytes: Uint8Array): string {
  let found = "";
  for (const byte of bytes) {
    const letter = byte === 0 ? "·" : String.fromCharCode(byte);
    if (!found.endsWith(letter)) found += letter;
  }
  return found;
}
