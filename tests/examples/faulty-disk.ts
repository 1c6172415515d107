// A disk that fails every tenth read and is full past its middle, to see what a guest makes of it. Usage: faulty-disk SOCKET-PATH
import { argv } from "node:process";
import { MemoryDisk, serve } from "vringd";

class FaultyDisk extends MemoryDisk {
  private reads = 0;

  override async read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    if (++this.reads % 10 === 0) throw new Error(`read ${this.reads} was bound to fail`);
    await super.read(offset, buffers);
  }

  override async write(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    if (offset >= this.byteLength / 2n)
      throw Object.assign(new Error("the disk is full"), { code: "ENOSPC" });
    await super.write(offset, buffers);
  }
}

const server = await serve({ disk: new FaultyDisk(64n << 20n), socketPath: argv[2]! });
server.on("requestFailed", (operation, error) => console.log(`${operation}: ${(error as Error).message}`));
process.once("SIGINT", () => server.close());
process.once("SIGTERM", () => server.close());
console.log("listening");
