// The host's end by its own AF_VSOCK: a guest's calls go to a CID of the machine's, and what calls the machine at some of its ports
// reaches the guest. Streams alone: kernels before 6.6 can't tell how long a message is.
import { VMADDR_CID_LOCAL } from "../../../assembly/spec/vsock-address.ts";
import { reasonOf, StartError } from "../../errors.ts";
import { SocketSet, type WatchedSocket } from "../../linux/socket-set.ts";
import type { SocketKind } from "../../linux/unix-socket.ts";
import { connectVsock, listenVsock, vsockSupport } from "../../linux/vsock-socket.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import { BACKLOG, Door } from "./door.ts";
import type { Answered, Caller } from "./far-socket.ts";

export interface MachineEndOptions {
  /** Whom a guest's calls go to. */
  readonly forwardCid?: number | undefined;
  /** Ports at which the machine's callers come, each for the same one of the guest's. */
  readonly forwardListen?: readonly number[] | undefined;
  readonly log: () => Log;
  admit(): boolean;
  called(port: number, caller: Caller, kind: SocketKind): void;
}

export class MachineEnd {
  private readonly sockets = new SocketSet();
  private readonly doors: Door[] = [];

  private constructor(private readonly options: MachineEndOptions) {}

  /** Throws StartError; nothing is left open then. */
  static open(options: MachineEndOptions): MachineEnd {
    checkSupport(options);
    const end = new MachineEnd(options);
    try {
      for (const port of options.forwardListen ?? []) end.openDoor(port);
      return end;
    } catch (error) {
      end.close();
      throw error;
    }
  }

  /** A guest calls this port. The result ends the wait. */
  call(port: number, kind: SocketKind, answered: Answered): () => void {
    const socket = kind === "stream" ? this.connect(port) : undefined;
    if (socket === undefined) {
      answered(undefined);
      return () => {};
    }
    socket.onEdge = () => {
      if (socket.hasGone) {
        socket.close();
        answered(undefined);
      } else if (socket.isWritable) answered(socket);
    };
    return () => socket.close();
  }

  close(): void {
    for (const door of this.doors) door.close();
    this.sockets.close();
  }

  private connect(port: number): WatchedSocket | undefined {
    const { forwardCid, log } = this.options;
    try {
      return this.sockets.add(connectVsock(forwardCid!, port));
    } catch (error) {
      log().warn({ cid: forwardCid, port, reason: reasonOf(error) }, "a guest's call can't be forwarded");
      return undefined;
    }
  }

  private openDoor(port: number): void {
    const { log, admit, called } = this.options;
    try {
      const door = new Door(listenVsock(port, BACKLOG), {
        log,
        whyUnwelcome: () => (admit() ? undefined : "there are as many connections as may be"),
        welcome: (fd) => called(port, { socket: this.sockets.add(fd), accepted: () => {} }, "stream"),
      });
      this.doors.push(door);
    } catch (error) {
      throw new StartError(
        `can't listen on port ${port} of AF_VSOCK for ${choice("forwardListen")}: ${reasonOf(error)}`,
      );
    }
  }
}

function checkSupport({ forwardCid, forwardListen }: MachineEndOptions): void {
  const support = vsockSupport();
  const given =
    forwardCid === undefined
      ? choice("forwardListen", forwardListen?.join("+"))
      : choice("forwardCid", forwardCid);
  if (support === "none")
    throw new StartError(
      `${given} needs AF_VSOCK, which this machine has not: modprobe vhost_vsock, or vsock_loopback`,
    );
  if (support === "no loopback" && forwardCid === VMADDR_CID_LOCAL)
    throw new StartError(
      `${given} is this machine itself, which nobody can reach by AF_VSOCK here: modprobe vsock_loopback`,
    );
}
