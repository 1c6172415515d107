// An EEPROM of the 24Cxx family, whose contents are a file: whoever writes the file writes the chip.
import { type FileHandle, open } from "node:fs/promises";
import { reasonOf, StartError } from "../errors.ts";
import type { Chip } from "./chip.ts";

const SIZE_MIN = 128;
const SIZE_MAX = 256 << 10;
/** Larger ones have offsets of two bytes. */
const SHORT_OFFSETS_MAX = 2048;
const ERASED = 0xff;

export function isAt24Size(size: number): boolean {
  return size >= SIZE_MIN && size <= SIZE_MAX && Number.isInteger(Math.log2(size));
}

export class At24 implements Chip {
  readonly what: string;
  readonly addresses: readonly number[];
  private readonly offsetBytes: number;
  /** Bytes that one address reaches: the offset's higher bits are in the address. */
  private readonly reach: number;
  private offset = 0;

  private constructor(
    private readonly address: number,
    private readonly size: number,
    path: string,
    private readonly file: FileHandle,
  ) {
    this.what = `at24 ${path}`;
    this.offsetBytes = size > SHORT_OFFSETS_MAX ? 2 : 1;
    this.reach = Math.min(size, 256 ** this.offsetBytes);
    this.addresses = Array.from({ length: size / this.reach }, (_, i) => address + i);
  }

  /** A file that is not there yet, or empty, becomes that of an erased chip. Throws StartError. */
  static async open(address: number, path: string, size: number): Promise<At24> {
    let file: FileHandle | undefined;
    try {
      file = await openOrMake(path);
      const status = await file.stat();
      if (!status.isFile()) throw new Error("it is no file");
      if (status.size === 0) await file.write(Buffer.alloc(size, ERASED), 0, size, 0);
      else if (status.size !== size) throw new Error(`it has ${status.size} bytes, and size=${size}`);
      return new At24(address, size, path, file);
    } catch (error) {
      await file?.close();
      throw new StartError(`can't keep an EEPROM in ${path}: ${reasonOf(error)}`, error);
    }
  }

  /** The offset comes first. What is too short for one is none. */
  async write(address: number, bytes: Uint8Array): Promise<void> {
    const { offsetBytes } = this;
    if (bytes.length < offsetBytes) return;
    const offset = Buffer.from(bytes).readUIntBE(0, offsetBytes);
    this.offset = (this.baseOf(address) + offset) % this.size;
    await this.eachPart(bytes.subarray(offsetBytes), async (part, at) => {
      await this.file.write(part, 0, part.length, at);
    });
  }

  async read(address: number, bytes: Uint8Array): Promise<void> {
    this.offset = this.baseOf(address) + (this.offset % this.reach);
    await this.eachPart(bytes, async (part, at) => {
      const { bytesRead } = await this.file.read(part, 0, part.length, at);
      // Somebody has cut the file short.
      part.fill(ERASED, bytesRead);
    });
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private baseOf(address: number): number {
    return (address - this.address) * this.reach;
  }

  /** After the last byte comes the first. */
  private async eachPart(
    bytes: Uint8Array,
    act: (part: Uint8Array, at: number) => Promise<void>,
  ): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + this.size - this.offset);
      await act(part, this.offset);
      done += part.length;
      this.offset = (this.offset + part.length) % this.size;
    }
  }
}

async function openOrMake(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r+");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return await open(path, "wx+");
  }
}
