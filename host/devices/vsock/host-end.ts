// The host's end: a socket at which callers say which port of the guest they want, and sockets at which programs wait for a guest's
// calls. Both are Unix sockets, as Firecracker and vhost-device-vsock have them.
import { reasonOf, StartError } from "../../errors.ts";
import type { SystemError } from "../../linux/libc.ts";
import { SocketSet, type WatchedSocket } from "../../linux/socket-set.ts";
import {
  connectUnix,
  isAbstract,
  isPeerTrusted,
  listenUnix,
  type SocketKind,
} from "../../linux/unix-socket.ts";
import type { Log } from "../../process/log.ts";
import { checkSocketPath, removeSocket, vacateSocketPath } from "../../protocol/listener.ts";
import { BACKLOG, Door } from "./door.ts";
import type { End } from "./end.ts";
import type { Answered, Caller, FarSocket } from "./far-socket.ts";
import type { Patience } from "./patience.ts";

const OWNER_ONLY = 0o600;
const PORT_MAX = 0xffffffff;
/** "CONNECT 4294967295\n", and some blanks. */
const HELLO_MAX = 32;
/** Between two looks at a listener whose backlog is full. */
const RETRY_MS = 20;

export interface HostEndOptions {
  /** Left out: the host has no way to the guest here. */
  readonly path?: string | undefined;
  readonly patience: Patience;
  readonly log: () => Log;
  /** Whether one more may come. */
  admit(): boolean;
  /** A caller wants this port of the guest's. */
  called(port: number, caller: Caller, kind: SocketKind): void;
}

export class HostEnd {
  private readonly sockets = new SocketSet();
  /** Those who have not said yet whom they want, and those who have not yet read what a guest has left them. */
  private readonly apart = new Set<FarSocket>();
  private readonly timers = new Map<object, NodeJS.Timeout>();
  /** Closes a socket at which callers come. */
  private readonly doors: (() => void)[] = [];

  private constructor(private readonly options: HostEndOptions) {}

  /** Throws StartError; nothing is left open then. */
  static open(options: HostEndOptions): HostEnd {
    const { path } = options;
    const end = new HostEnd(options);
    if (path === undefined) return end;
    try {
      checkSocketPath(`${path}_${PORT_MAX}`);
      end.openDoor(path, "stream");
      end.openDoor(`${path}_seqpacket`, "seqpacket");
      return end;
    } catch (error) {
      end.close();
      throw error;
    }
  }

  /** Sockets that are no connections, or no longer. */
  get othersCount(): number {
    return this.apart.size;
  }

  /** A guest calls this port of the host's. `answered`: with whoever is there, or nobody. The result ends the wait. */
  call(port: number, kind: SocketKind, answered: Answered): () => void {
    const { path } = this.options;
    const key = {};
    const attempt = () => {
      this.timers.delete(key);
      const socket = path === undefined ? undefined : this.connect(`${path}_${port}`, kind);
      if (socket === "busy") this.timers.set(key, setTimeout(attempt, RETRY_MS));
      else answered(socket);
    };
    attempt();
    return () => this.endTimer(key);
  }

  /** The host side gets what a guest has left, for as long as that takes, within reason. */
  linger(end: End): void {
    const { socket } = end;
    this.setApart(socket, this.options.patience.lingerMs, () => {
      end.flush();
      if (end.hasBacklog) return;
      this.forget(socket);
      socket.close();
    });
    socket.onEdge();
  }

  close(): void {
    for (const closeDoor of this.doors) closeDoor();
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
    for (const socket of this.apart) socket.close(true);
    this.apart.clear();
    this.sockets.close();
  }

  private openDoor(path: string, kind: SocketKind): void {
    vacateSocketPath(path);
    try {
      const fd = listenUnix(path, { mode: OWNER_ONLY }, BACKLOG, kind);
      const remove = removeSocket(path);
      const door = new Door(fd, {
        log: this.options.log,
        whyUnwelcome: (caller) => this.whyUnwelcome(caller),
        welcome: (caller) => this.welcome(caller, kind),
      });
      this.doors.push(() => {
        remove();
        door.close();
      });
    } catch (error) {
      throw new StartError(`can't listen on ${path}: ${reasonOf(error)}`, error);
    }
  }

  private connect(path: string, kind: SocketKind): WatchedSocket | "busy" | undefined {
    try {
      const socket = this.sockets.add(connectUnix(path, kind), kind);
      // It has just been made; the first edge says so too late for what the guest sends at once.
      socket.isWritable = true;
      return socket;
    } catch (error) {
      const { code } = error as SystemError;
      if (code === "EAGAIN") return "busy";
      const isUsual = code === "ENOENT" || code === "ECONNREFUSED";
      this.options
        .log()
        [isUsual ? "debug" : "warn"]({ path, reason: reasonOf(error) }, "nobody answers a guest's call");
      return undefined;
    }
  }

  private whyUnwelcome(fd: number): string | undefined {
    const { path, admit } = this.options;
    if (!admit()) return "there are as many connections as may be";
    // Nothing else keeps others away from an abstract name.
    return path !== undefined && isAbstract(path) && !isPeerTrusted(fd) ? "it is another user's" : undefined;
  }

  /** It says whom it wants, in a line; what follows is for the guest. */
  private welcome(fd: number, kind: SocketKind): void {
    const socket = this.sockets.add(fd, kind);
    this.setApart(socket, this.options.patience.helloMs, () => {
      const line = readLine(socket);
      if (line === undefined && !socket.hasEnded) return;
      this.forget(socket);
      const port = line === undefined ? undefined : portOf(line);
      if (port === undefined) socket.close();
      else this.options.called(port, { socket, accepted: (own) => greet(socket, own) }, kind);
    });
  }

  /** Not longer than this; `look` is called when something happens there. */
  private setApart(socket: FarSocket, timeMs: number, look: () => void): void {
    this.apart.add(socket);
    socket.onEdge = look;
    const end = () => {
      this.forget(socket);
      socket.close(true);
    };
    this.timers.set(socket, setTimeout(end, timeMs));
  }

  private forget(socket: FarSocket): void {
    this.apart.delete(socket);
    this.endTimer(socket);
    socket.onEdge = () => {};
  }

  private endTimer(key: object): void {
    clearTimeout(this.timers.get(key));
    this.timers.delete(key);
  }
}

/** The first bytes on a fresh socket, which has room for them. */
function greet(socket: WatchedSocket, ownPort: number): void {
  socket.write([Buffer.from(`OK ${ownPort}\n`)]);
}

const hello = Buffer.alloc(HELLO_MAX);

/** The first line, without its end, and not a byte more. Undefined: it has no end yet; empty: it is too long to have a meaning. */
function readLine(socket: WatchedSocket): string | undefined {
  const length = socket.peek(hello) ?? 0;
  const end = hello.subarray(0, length).indexOf("\n");
  if (end === -1) return length < HELLO_MAX ? undefined : "";
  socket.read([hello.subarray(0, end + 1)]);
  return hello.toString("latin1", 0, end);
}

function portOf(line: string): number | undefined {
  const [, digits] = /^CONNECT (\d{1,10}) *\r?$/i.exec(line) ?? [];
  const port = Number(digits);
  // The last one stands for any (VMADDR_PORT_ANY).
  return digits !== undefined && port < PORT_MAX ? port : undefined;
}
