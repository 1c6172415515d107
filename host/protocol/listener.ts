// Where front-ends come in: a socket of our own making, or one that we were started with.
import { accessSync, constants, existsSync, lstatSync, statSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { reasonOf, StartError } from "../errors.ts";
import { close, SystemError } from "../linux/libc.ts";
import { whenReadable } from "../linux/readiness.ts";
import { SpareDescriptor } from "../linux/spare-descriptor.ts";
import * as socket from "../linux/unix-socket.ts";
import { onAbort } from "../process/abort.ts";
import { choice } from "../process/choices.ts";
import type { Log } from "../process/log.ts";
import { bytesOfText, filePath } from "../process/paths.ts";
import { Connection } from "./connection.ts";

/** Front-ends as they come. */
export interface FrontEnds {
  /** How many of them may be connected at a time. */
  readonly atOnce: number;
  /** The next one, or undefined when no more will come. */
  next(): Promise<Connection | undefined>;
  close(): void;
  /** The socket that listens, for whoever goes on listening there; undefined: there is none. */
  readonly listening?: number | undefined;
  /** Nobody comes in until release(). */
  hold(): void;
  release(): void;
}

/** After an accept that failed, before the next: what is short of now may be there again. */
const RETRY_MS = 500;

/** A machine moves from one front-end to another, which comes before the first has left. */
const LISTENER_AT_ONCE = 2;

/** Those that connect to a listening socket. More than may be connected wait in its backlog. */
class Listener implements FrontEnds {
  readonly atOnce = LISTENER_AT_ONCE;
  private readonly closing = new AbortController();
  private readonly spare = new SpareDescriptor();
  private isHeld = false;
  private goOn = () => {};

  constructor(
    private readonly fd: number,
    private readonly removeFile: () => void,
    private readonly log: Log,
    private readonly isWelcome: (fd: number) => boolean = () => true,
  ) {}

  async next(): Promise<Connection | undefined> {
    while (!this.closing.signal.aborted) {
      if (this.isHeld) {
        await this.untilReleased();
        continue;
      }
      const fd = await this.accept();
      if (fd === undefined) await this.wait();
      else if (fd !== REFUSED) return new Connection(fd);
      // Those who are refused can come again at once, and must not keep all else waiting.
      else await nextTurn();
    }
    return undefined;
  }

  get listening(): number {
    return this.fd;
  }

  hold(): void {
    this.isHeld = true;
  }

  release(): void {
    this.isHeld = false;
    this.goOn();
  }

  close(): void {
    if (this.closing.signal.aborted) return;
    this.closing.abort();
    this.goOn();
    this.spare.close();
    this.removeFile();
    close(this.fd);
  }

  /** Undefined if nobody is there. Whatever the kernel is short of, it is one front-end that goes without. */
  private async accept(): Promise<number | typeof REFUSED | undefined> {
    try {
      const fd = socket.acceptUnix(this.fd);
      if (fd === undefined || this.isWelcome(fd)) return fd;
      close(fd);
      this.log.warn("a front-end of another user was refused at an abstract socket");
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const reason = reasonOf(error);
      const outcome = this.refuseWithSpare();
      // Without a descriptor accept(2) fails before it looks who is there.
      if (outcome === "nobody is there") return undefined;
      if (outcome === REFUSED) this.log.warn({ reason }, "a front-end was refused");
      else {
        this.log.warn({ reason }, "a front-end can't be accepted, and waits");
        await sleep(RETRY_MS, undefined, { signal: this.closing.signal }).catch(() => {});
      }
    }
    return REFUSED;
  }

  /**
   * With no descriptor left, its connection would make the socket readable for ever, and nobody would tell it. Undefined: it can't
   * be refused either.
   */
  private refuseWithSpare(): typeof REFUSED | "nobody is there" | undefined {
    return this.spare.lend(() => {
      const fd = socket.acceptUnix(this.fd);
      if (fd === undefined) return "nobody is there";
      close(fd);
      return REFUSED;
    });
  }

  private untilReleased(): Promise<void> {
    return new Promise((resolve) => {
      this.goOn = resolve;
    });
  }

  private wait(): Promise<void> {
    const { signal } = this.closing;
    return new Promise((resolve) => {
      let unhear = () => {};
      const end = () => {
        watch.stop();
        unhear();
        resolve();
      };
      const watch = whenReadable(this.fd, end);
      unhear = onAbort(signal, end);
    });
  }
}

const REFUSED = "refused";

/** Listens at a path that vacateSocketPath() has found free. Without `access` the file's mode is the umask's. */
export function listenAt(path: string, log: Log, access: socket.SocketAccess = {}): FrontEnds {
  try {
    const fd = socket.listenUnix(path, access);
    const isWelcome = socket.isAbstract(path) ? socket.isPeerTrusted : undefined;
    return new Listener(fd, removeSocket(path), log, isWelcome);
  } catch (error) {
    throw new StartError(`can't listen on ${path}: ${reasonOf(error)}`, error);
  }
}

/** What a predecessor has handed over of an entrance. */
export interface InheritedEntrance {
  /** The socket that listens; undefined: none does. */
  readonly listening: number | undefined;
  /** Whether the entrance is this process's by now: until then it is the predecessor's, who may go on. */
  isTaken(): boolean;
}

/** Listens where a predecessor did. `path`: of a socket that it has made. */
export function listenAfter(
  { listening, isTaken }: InheritedEntrance,
  path: string | undefined,
  log: Log,
): FrontEnds {
  // The one front-end that it was started with is among those that are handed over.
  if (listening === undefined) return lone();
  if (path === undefined) return new Listener(listening, () => {}, log);
  const remove = removeSocket(path);
  const isWelcome = socket.isAbstract(path) ? socket.isPeerTrusted : undefined;
  return new Listener(listening, () => isTaken() && remove(), log, isWelcome);
}

/** Front-ends from a descriptor: of a listening socket as many as come, of a connected one the one at its other end. */
export function adopt(fd: number, log: Log): FrontEnds {
  const isListening = checkAdopted(fd);
  socket.setNonBlocking(fd);
  if (isListening) return new Listener(fd, () => {}, log);
  return lone(new Connection(fd));
}

/** A front-end that is connected already, and no other. */
function lone(...connections: Connection[]): FrontEnds {
  const [next, close] = [async () => connections.pop(), () => connections.pop()?.close()];
  return { atOnce: 1, next, close, hold: () => {}, release: () => {} };
}

/** Makes sure that nobody listens there, and removes the socket that a predecessor has left. */
export function vacateSocketPath(path: string): void {
  checkSocketPath(path);
  try {
    if (socket.isAbstract(path)) {
      if (isAnswered(path)) throw inUse(path);
      return;
    }
    if (!existsSync(filePath(dirname(path))))
      throw new StartError(
        `the directory ${dirname(path)} of the socket ${path} does not exist: make it, or choose another path`,
      );
    accessSync(filePath(dirname(path)), constants.W_OK);
    const stats = lstatSync(filePath(path), { throwIfNoEntry: false });
    if (stats === undefined) return;
    if (!stats.isSocket())
      throw new StartError(`${path} exists and is no socket; remove it or choose another path`);
    if (isAnswered(path)) throw inUse(path);
    unlinkSync(filePath(path));
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`can't use ${path} as the socket path: ${reasonOf(error)}`, error);
  }
}

export function checkSocketPath(path: string): void {
  const { length } = bytesOfText(path);
  if (length <= socket.SOCKET_PATH_MAX) return;
  throw new StartError(
    `the socket path has ${length} bytes, more than the ${socket.SOCKET_PATH_MAX} that a Unix socket can have: ${path}`,
  );
}

function inUse(path: string): StartError {
  return new StartError(`${path} is in use: another process listens there`, { code: "EADDRINUSE" });
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
  if (socket.isAbstract(path)) return () => {};
  const made = statSync(filePath(path), { bigint: true, throwIfNoEntry: false });
  return () => {
    if (made === undefined) return;
    const now = lstatSync(filePath(path), { bigint: true, throwIfNoEntry: false });
    if (now?.ino === made.ino && now.dev === made.dev) unlinkSync(filePath(path));
  };
}

/** Whether it listens. Throws StartError for what neither listens nor is connected, and for what is no such socket. */
function checkAdopted(fd: number): boolean {
  const given = choice("fd", fd);
  const advice = "start the program with a Unix stream socket there that listens or is connected";
  try {
    if (!socket.isUnixStream(fd)) throw new StartError(`${given} is no Unix stream socket: ${advice}`);
    if (socket.isListening(fd)) return true;
    if (socket.isConnected(fd)) return false;
    throw new StartError(`${given} is a socket that neither listens nor is connected: ${advice}`);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    // A descriptor that was closed at our start may be one of the runtime's by now.
    const what = error.code === "EBADF" ? "is not open" : "is no socket";
    throw new StartError(`${given} ${what}: ${advice}`);
  }
}
