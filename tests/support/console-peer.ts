// Whoever is at the host side of a console's port: what they have heard, and what they say.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { connect, type Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { until } from "./until.ts";

/** What the guest waits for before it starts. */
export const GO = "g";

/** A guest on a busy machine takes its time. */
const HEAR_MS = 300_000;
const PART_BYTES = 1 << 20;
/** Characters of what was heard, for a failure's message. */
const TAIL = 3000;

/** Connects to the socket that is its argument; its own standard streams are the other end. */
const RELAY = `
const socket = require("node:net").connect(process.argv[1]);
socket.pipe(process.stdout);
process.stdin.pipe(socket);
`;

export class ConsolePeer {
  heard = "";
  /** Where the next waitFor starts to look. */
  private cursor = 0;

  private constructor(
    input: Readable,
    private readonly output: Writable,
    private readonly child: ChildProcess | undefined,
    private readonly end: () => void,
  ) {
    input
      .on("error", () => {})
      .on("data", (bytes: Buffer) => {
        this.heard += bytes.toString("latin1").replaceAll("\r", "");
      });
    output.on("error", () => {});
  }

  /** At a Unix socket. */
  static at(path: string): ConsolePeer {
    const socket = connect(path);
    return new ConsolePeer(socket, socket, undefined, () => socket.destroy());
  }

  /** At a Unix socket, as a process that can be killed or stopped. */
  static inProcess(path: string): ConsolePeer {
    const child = spawn(process.execPath, ["-e", RELAY, path], { stdio: ["pipe", "pipe", "inherit"] });
    return new ConsolePeer(child.stdout, child.stdin, child, () => child.kill("SIGKILL"));
  }

  /** At a terminal. */
  static onTerminal(path: string): ConsolePeer {
    const reader = spawn("cat", [path], { stdio: ["ignore", "pipe", "inherit"] });
    const writer = createWriteStream(path, { flags: "r+" });
    return new ConsolePeer(reader.stdout, writer, reader, () => {
      reader.kill("SIGKILL");
      writer.destroy();
    });
  }

  /** What is heard after that which the last call found. */
  async waitFor(pattern: RegExp, timeoutMs = HEAR_MS): Promise<string> {
    const look = () => pattern.exec(this.heard.slice(this.cursor)) ?? undefined;
    const found = await until(look, `the host side hears ${pattern}`, timeoutMs).catch((error: Error) => {
      throw new Error(`${error.message}; at last it heard:\n${this.heard.slice(-TAIL)}`);
    });
    this.cursor += found.index + found[0].length;
    return found[0];
  }

  say(text: string): void {
    this.output.write(text);
  }

  /** To the process of its own. */
  signal(signal: NodeJS.Signals): void {
    this.child!.kill(signal);
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

/** As whoever sits at the terminal does, by the window or by stty(1). */
export function resizeTerminal(path: string, { rows, cols }: { rows: number; cols: number }): void {
  const { status, stderr } = spawnSync("stty", ["-F", path, "rows", String(rows), "cols", String(cols)]);
  if (status !== 0) throw new Error(`stty: ${stderr}`);
}

export interface Exchange {
  sent: string;
  heard: string;
}

/** Says GO, then says and hears so many random bytes at once, and gives their SHA-256. */
export async function exchangeBytes(socket: Socket, byteLength: number): Promise<Exchange> {
  socket.write(GO);
  const [sent, heard] = await Promise.all([sendBytes(socket, byteLength), hearBytes(socket, byteLength)]);
  return { sent, heard };
}

async function sendBytes(socket: Socket, byteLength: number): Promise<string> {
  const hash = createHash("sha256");
  for (let left = byteLength; left > 0; left -= PART_BYTES) {
    const bytes = randomBytes(Math.min(left, PART_BYTES));
    hash.update(bytes);
    if (!socket.write(bytes)) await once(socket, "drain");
  }
  return hash.digest("hex");
}

function hearBytes(socket: Socket, byteLength: number): Promise<string> {
  const hash = createHash("sha256");
  let left = byteLength;
  return new Promise((resolve, reject) => {
    const hear = (bytes: Buffer) => {
      hash.update(bytes);
      left -= bytes.length;
      if (left > 0) return;
      socket.off("data", hear);
      if (left === 0) resolve(hash.digest("hex"));
      else reject(new Error(`${-left} bytes more than were asked for`));
    };
    socket.on("data", hear).on("close", () => reject(new Error(`the socket has ended, ${left} bytes early`)));
  });
}
