// Guest memory as byte arrays, by host address and without a copy: what a disk that is an object reads and writes.
import {
  ENTRY_LENGTH,
  ENTRY_TARGET,
  REGIONS_MAX,
  TABLE_ENTRY_SIZE,
} from "../../assembly/abi/guest-memory.ts";
import { REGION_TABLE_PTR, ZEROES_PTR, ZEROES_SIZE } from "../../assembly/abi/memory.ts";
import { viewOf } from "../linux/libc.ts";

/** Node 20 aborts the process at a view of 5 GiB. Buffers seldom cross a border of this. */
const CHUNK_BYTES = 2 ** 30;

/** Part of a region, mapped at `start` in this process. */
interface Chunk {
  start: number;
  end: number;
  memory: ArrayBuffer;
}

export class MemoryViews {
  private chunks: Chunk[] = [];
  private recent: Chunk | undefined;

  /** `view`: linear memory, which begins at `hostAddress` and holds the table of regions. */
  constructor(
    private readonly view: DataView,
    private readonly hostAddress: number,
    private readonly chunkBytes = CHUNK_BYTES,
  ) {}

  /** Guest memory may have changed: regions are looked up anew. */
  forget(): void {
    this.chunks = [];
    this.recent = undefined;
  }

  /** Appends `byteLength` bytes from a host address to `buffers`: one array, or more where they cross a border of chunks. */
  append(buffers: Uint8Array[], address: number, byteLength: number): void {
    let at = address;
    for (const end = address + byteLength; at < end; ) {
      const chunk = this.chunkAt(at);
      const length = Math.min(end, chunk.end) - at;
      buffers.push(new Uint8Array(chunk.memory, at - chunk.start, length));
      at += length;
    }
  }

  private chunkAt(address: number): Chunk {
    const { recent } = this;
    if (recent && address >= recent.start && address < recent.end) return recent;
    const isHere = ({ start, end }: Chunk) => address >= start && address < end;
    this.recent = this.chunks.find(isHere) ?? this.makeChunk(address);
    return this.recent;
  }

  private makeChunk(address: number): Chunk {
    const region = this.regions().find(({ start, end }) => address >= start && address < end);
    // The core takes addresses from this very table.
    if (region === undefined) throw new Error(`no region holds host address 0x${address.toString(16)}`);
    const start = region.start + Math.floor((address - region.start) / this.chunkBytes) * this.chunkBytes;
    const end = Math.min(start + this.chunkBytes, region.end);
    // SAFETY: regions stay mapped while a ring runs, and forget() is called before one runs on others.
    const chunk = { start, end, memory: viewOf(start, end - start) };
    this.chunks.push(chunk);
    return chunk;
  }

  private regions(): { start: number; end: number }[] {
    const zeroes = this.hostAddress + ZEROES_PTR;
    const regions = [{ start: zeroes, end: zeroes + ZEROES_SIZE }];
    for (let i = 0; i < REGIONS_MAX; i++) {
      const entry = REGION_TABLE_PTR + i * TABLE_ENTRY_SIZE;
      const byteLength = Number(this.view.getBigUint64(entry + ENTRY_LENGTH, true));
      if (byteLength === 0) break;
      const start = Number(this.view.getBigUint64(entry + ENTRY_TARGET, true));
      regions.push({ start, end: start + byteLength });
    }
    return regions;
  }
}
