// Where front-ends come in: a socket of our own making, or one that we were started with.
import { accessSync, constants, lstatSync, statSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { reasonOf, StartError } from "../errors.ts";
import { close, SystemError } from "../linux/libc.ts";
import { whenReadable } from "../linux/readiness.ts";
import * as socket from "../linux/unix-socket.ts";
import { bytesOfText, filePath } from "../paths.ts";
import { Connection } from "./connection.ts";

/** Front-ends, one after the other. */
export interface FrontEnds {
  /** The next one, or undefined when no more will come. */
  next(): Promise<Connection | undefined>;
  close(): void;
}

/** Those that connect to a listening socket. Whoever comes while another is served waits in its backlog. */
class Listener implements FrontEnds {
  private isClosed = false;
  private endWait: (() => void) | undefined;

  constructor(
    private readonly fd: number,
    private readonly removeFile: () => void,
  ) {}

  async next(): Promise<Connection | undefined> {
    while (!this.isClosed) {
      const fd = socket.acceptUnix(this.fd);
      if (fd !== undefined) return new Connection(fd);
      await this.wait();
    }
    return undefined;
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.endWait?.();
    this.removeFile();
    close(this.fd);
  }

  private wait(): Promise<void> {
    return new Promise((resolve) => {
      const watch = whenReadable(this.fd, () => this.endWait?.());
      this.endWait = () => {
        this.endWait = undefined;
        watch.stop();
        resolve();
      };
    });
  }
}

/** Listens at a path that vacateSocketPath() has found free. The file is made with the umask that we were started with. */
export function listenAt(path: string): FrontEnds {
  try {
    const fd = socket.listenUnix(path);
    return new Listener(fd, removeSocket(path));
  } catch (error) {
    throw new StartError(`can't listen on ${path}: ${reasonOf(error)}`);
  }
}

/** Front-ends from a descriptor: of a listening socket as many as come, of a connected one the one at its other end. */
export function adopt(fd: number): FrontEnds {
  const isListening = checkAdopted(fd);
  socket.setNonBlocking(fd);
  if (isListening) return new Listener(fd, () => {});
  const connections = [new Connection(fd)];
  return { next: async () => connections.pop(), close: () => connections.pop()?.close() };
}

/** Makes sure that nobody listens there, and removes the socket that a predecessor has left. */
export function vacateSocketPath(path: string): void {
  const { length } = bytesOfText(path);
  if (length > socket.SOCKET_PATH_MAX) {
    throw new StartError(
      `the socket path has ${length} bytes, more than the ${socket.SOCKET_PATH_MAX} that a Unix socket can have: ${path}`,
    );
  }
  try {
    accessSync(filePath(dirname(path)), constants.W_OK);
    const stats = lstatSync(filePath(path), { throwIfNoEntry: false });
    if (stats === undefined) return;
    if (!stats.isSocket())
      throw new StartError(`${path} exists and is no socket; remove it or choose another path`);
    if (isAnswered(path)) throw new StartError(`${path} is in use: another process listens there`);
    unlinkSync(filePath(path));
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`can't use ${path} as the socket path: ${reasonOf(error)}`);
  }
}

function isAnswered(path: string): boolean {
  try {
    close(socket.connectUnix(path));
    return true;
  } catch (error) {
    const { code } = error as SystemError;
    if (code === "ECONNREFUSED" || code === "ENOENT") return false;
    // A full backlog, or a socket of another type.
    if (code === "EAGAIN" || code === "EPROTOTYPE") return true;
    throw error;
  }
}

/** What will remove the socket that was just made at `path`. By then the path may be a successor's. */
export function removeSocket(path: string): () => void {
  const made = statSync(filePath(path), { bigint: true });
  return () => {
    const now = lstatSync(filePath(path), { bigint: true, throwIfNoEntry: false });
    if (now?.ino === made.ino && now.dev === made.dev) unlinkSync(filePath(path));
  };
}

/** Whether it listens. Throws StartError for what neither listens nor is connected, and for what is no such socket. */
function checkAdopted(fd: number): boolean {
  const advice = "start the program with a Unix stream socket there that listens or is connected";
  try {
    if (!socket.isUnixStream(fd)) throw new StartError(`--fd=${fd} is no Unix stream socket: ${advice}`);
    if (socket.isListening(fd)) return true;
    if (socket.isConnected(fd)) return false;
    throw new StartError(`--fd=${fd} is a socket that neither listens nor is connected: ${advice}`);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    // A descriptor that was closed at our start may be one of the runtime's by now.
    const what = error.code === "EBADF" ? "is not open" : "is no socket";
    throw new StartError(`--fd=${fd} ${what}: ${advice}`);
  }
}
