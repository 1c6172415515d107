// `vringd vsock connect`: this process's standard streams at a port of a guest.
import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { reasonOf } from "../../errors.ts";
import { filePath } from "../../process/paths.ts";
import { askControl } from "../control-client.ts";
import { deviceName, resolveControlSocket } from "../control-sockets.ts";
import { complain } from "../terminal.ts";
import type { ConnectOptions } from "./command.ts";

/** "OK 4294967295\n", and some more. */
const ANSWER_MAX = 64;

/** Resolves with the exit status. */
export async function connect(pathOrName: string, port: number, options: ConnectOptions): Promise<number> {
  const timeoutMs = options.timeout * 1000;
  try {
    const socket = await reach(await wayTo(pathOrName, timeoutMs), port, timeoutMs);
    await pass(socket);
    return 0;
  } catch (error) {
    complain(reasonOf(error));
    return 1;
  }
}

/** Where a running daemon has its sockets, if it is named by its control socket. */
async function wayTo(pathOrName: string, timeoutMs: number): Promise<string> {
  const path = resolveControlSocket(pathOrName);
  if (deviceName(path) === path.slice(path.lastIndexOf("/") + 1)) return path;
  const status = await askControl<{ sockets?: { udsPath?: string } }>(
    { socketPath: path, timeoutMs },
    "GET",
    "/v1/status",
  );
  if (status.sockets === undefined) throw new Error(`${path}: its device has no sockets`);
  if (status.sockets.udsPath === undefined)
    throw new Error(`${path}: its guest has no Unix socket; start vringd-vsock with one (--uds-path, uds=)`);
  return status.sockets.udsPath;
}

/** A socket that is connected to the guest's port. Throws an Error whose message is a sentence. */
async function reach(path: string, port: number, timeoutMs: number): Promise<Socket> {
  const socket = createConnection({ path: filePath(path) as string, allowHalfOpen: true });
  const timer = setTimeout(
    () => socket.destroy(new Error(`port ${port} has not answered within ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  try {
    await once(socket, "connect");
    socket.write(`CONNECT ${port}\n`);
    const answer = await firstLine(socket);
    if (answer === undefined)
      throw new Error(`nobody answers at port ${port}: nothing listens there, or no guest is running`);
    if (!/^OK\b/.test(answer)) throw new Error("it is no socket of a guest's: it does not answer OK");
    return socket;
  } catch (error) {
    socket.destroy();
    throw new Error(`${path}: ${reasonOf(error)}`);
  } finally {
    clearTimeout(timer);
  }
}

/** Not a byte more than the line is taken. Undefined: it ends before. */
async function firstLine(socket: Socket): Promise<string | undefined> {
  let line = "";
  const ended = new Promise<undefined>((resolve, reject) => {
    socket.once("end", () => resolve(undefined)).once("error", reject);
  });
  while (line.length < ANSWER_MAX) {
    const byte = socket.read(1);
    if (byte === null) {
      const isMore = await Promise.race([once(socket, "readable"), ended]);
      if (isMore === undefined || socket.destroyed) return undefined;
    } else if (String(byte) === "\n") return line;
    else line += byte;
  }
  return line;
}

/** Until the guest has said its last. */
async function pass(socket: Socket): Promise<void> {
  const { stdin, stdout } = process;
  socket.on("error", () => socket.destroy());
  stdin.pipe(socket);
  socket.pipe(stdout, { end: false });
  await new Promise((resolve) => socket.once("end", resolve).once("close", resolve));
  socket.destroy();
  stdin.destroy();
}
