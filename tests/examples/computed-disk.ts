// A read-only disk of 1 TiB that lies nowhere: each 8 bytes are their own offset. Usage: computed-disk SOCKET-PATH
import { argv } from "node:process";
import { type BlockDisk, serve } from "vringd";

const disk: BlockDisk = {
  byteLength: 1n << 40n,
  serial: "computed",
  async read(offset, buffers) {
    let at = offset;
    for (const buffer of buffers) {
      // A buffer may begin and end anywhere in a number.
      const numbers = Buffer.alloc(8);
      for (let i = 0; i < buffer.length; i++, at++) {
        if (i === 0 || at % 8n === 0n) numbers.writeBigUInt64LE(at - (at % 8n));
        buffer[i] = numbers[Number(at % 8n)]!;
      }
    }
  },
};

const server = await serve({ disk, socketPath: argv[2]! });
process.once("SIGINT", () => server.close());
process.once("SIGTERM", () => server.close());
console.log("listening");
