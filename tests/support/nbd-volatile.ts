// An NBD server with a cache that it loses when it dies: what was not flushed is gone.
import type { Peer } from "./nbd-fake.ts";
import { DEFAULT_FLAGS } from "./nbd-fake.ts";
import type { Random } from "./random.ts";

const READ = 0;
const WRITE = 1;
const DISC = 2;
const FLUSH = 3;
const WRITE_ZEROES = 6;

export class VolatileExport {
  readonly stable: Buffer;
  private cache: Buffer;
  flushes = 0;

  constructor(
    readonly byteLength: number,
    private readonly random: Random,
  ) {
    this.stable = Buffer.alloc(byteLength);
    this.cache = Buffer.alloc(byteLength);
  }

  /** Serves one connection until it has done so many requests, and dies in the middle of others. */
  async serve(peer: Peer, requests: number): Promise<void> {
    this.stable.copy(this.cache);
    await peer.welcome({ byteLength: BigInt(this.byteLength), flags: DEFAULT_FLAGS });
    for (let i = 0; i < requests; i++) {
      const { type, cookie, offset, byteLength, data } = await peer.request();
      const at = Number(offset);
      // It may die between doing and answering.
      const isLast = i === requests - 1;
      if (type === DISC) return;
      if (type === WRITE) data.copy(this.cache, at);
      else if (type === WRITE_ZEROES) this.cache.fill(0, at, at + byteLength);
      else if (type === FLUSH) this.flush();
      if (isLast && this.random.below(2) === 0) return;
      peer.answer(
        cookie,
        0,
        type === READ ? Buffer.from(this.cache.subarray(at, at + byteLength)) : undefined,
      );
    }
  }

  private flush(): void {
    this.cache.copy(this.stable);
    this.flushes++;
  }
}
