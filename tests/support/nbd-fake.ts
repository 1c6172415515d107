// An NBD server that does what a test says: well enough to be believed, and then as wrongly as is wanted.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** One connection, as the server sees it. */
export class Peer {
  private bytes = Buffer.alloc(0);
  private wake: (() => void) | undefined;
  private hasEnded = false;

  constructor(readonly socket: Socket) {
    socket.on("data", (chunk) => {
      this.bytes = Buffer.concat([this.bytes, chunk]);
      this.wake?.();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.hasEnded = true;
      this.wake?.();
    });
  }

  async read(byteLength: number): Promise<Buffer> {
    while (this.bytes.length < byteLength) {
      if (this.hasEnded) throw new HungUp();
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const taken = this.bytes.subarray(0, byteLength);
    this.bytes = this.bytes.subarray(byteLength);
    return taken;
  }

  write(...parts: (Buffer | readonly [bits: 16 | 32 | 64, value: number | bigint])[]): void {
    this.socket.write(Buffer.concat(parts.map((part) => (Buffer.isBuffer(part) ? part : word(...part)))));
  }

  /** The greeting, with handshake flags, and what the client says to it. */
  async greet(flags = 3): Promise<void> {
    this.write(Buffer.from("NBDMAGICIHAVEOPT"), [16, flags]);
    await this.read(4);
  }

  async option(): Promise<{ option: number; data: Buffer }> {
    const header = await this.read(16);
    return { option: header.readUInt32BE(8), data: await this.read(header.readUInt32BE(12)) };
  }

  reply(option: number, type: number, data: Buffer = Buffer.alloc(0)): void {
    this.write([64, 0x3e889045565a9n], [32, option], [32, type], [32, data.length], data);
  }

  /** The whole handshake, with NBD_OPT_GO. */
  async welcome({ byteLength = 1n << 20n, flags = DEFAULT_FLAGS } = {}): Promise<void> {
    await this.greet();
    const { option } = await this.option();
    this.reply(option, 3, Buffer.concat([word(16, 0), word(64, byteLength), word(16, flags)]));
    this.reply(option, 1);
  }

  /** A request, with what it writes. */
  async request(): Promise<{
    type: number;
    flags: number;
    cookie: Buffer;
    offset: bigint;
    byteLength: number;
    data: Buffer;
  }> {
    const header = await this.read(28);
    const [type, byteLength] = [header.readUInt16BE(6), header.readUInt32BE(24)];
    return {
      type,
      byteLength,
      flags: header.readUInt16BE(4),
      cookie: header.subarray(8, 16),
      offset: header.readBigUInt64BE(16),
      data: type === 1 ? await this.read(byteLength) : Buffer.alloc(0),
    };
  }

  answer(cookie: Buffer, error = 0, data: Buffer = Buffer.alloc(0)): void {
    this.write([32, 0x67446698], [32, error], cookie, data);
  }
}

class HungUp extends Error {}

/** Flush and write zeroes, no more. */
export const DEFAULT_FLAGS = 0x45;

export class FakeNbdServer {
  private readonly sockets = new Set<Socket>();
  readonly failures: Error[] = [];
  connections = 0;

  private constructor(
    private readonly server: Server,
    private readonly directory: string,
  ) {}

  /** The script is run for each connection, counted from 1; then the connection is ended. */
  static async start(script: (peer: Peer, connection: number) => Promise<void>): Promise<FakeNbdServer> {
    const directory = mkdtempSync(join(tmpdir(), "vringd-nbd-"));
    const server = createServer();
    const fake = new FakeNbdServer(server, directory);
    server.on("connection", (socket) => {
      fake.sockets.add(socket);
      script(new Peer(socket), ++fake.connections)
        .catch((error) => error instanceof HungUp || fake.failures.push(error))
        .finally(() => socket.destroy());
    });
    server.listen(join(directory, "nbd.sock"));
    await once(server, "listening");
    return fake;
  }

  uri(...parameters: readonly string[]): string {
    return `nbd+unix:///?${[`socket=${join(this.directory, "nbd.sock")}`, ...parameters].join("&")}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    rmSync(this.directory, { recursive: true, force: true });
    if (this.failures.length > 0) throw this.failures[0];
  }
}

function word(bits: 16 | 32 | 64, value: number | bigint): Buffer {
  const bytes = Buffer.alloc(bits / 8);
  if (bits === 64) bytes.writeBigUInt64BE(BigInt(value));
  else bytes.writeUIntBE(Number(value), 0, bits / 8);
  return bytes;
}
