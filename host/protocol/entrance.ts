// How front-ends and we meet: they connect to a path, or to a descriptor that was handed down, or we connect to them.
import { StartError } from "../errors.ts";
import { groupNumber } from "../linux/group.ts";
import { isAbstract, type SocketAccess } from "../linux/unix-socket.ts";
import type { Log } from "../process/log.ts";
import { Connector } from "./connector.ts";
import {
  adopt,
  type FrontEnds,
  type InheritedEntrance,
  listenAfter,
  listenAt,
  vacateSocketPath,
} from "./listener.ts";

export type Entrance = { socketPath: string } | { connect: string } | { fd: number };

/** Who may connect to a socket that we make. `group`: a name or a number. */
export interface AccessChoice {
  mode?: number | undefined;
  group?: string | undefined;
}

/** A group that may not write can't connect. */
const GROUP_MODE = 0o660;

/**
 * What can be found out before the disk is opened: it is cheaper to refuse than to find the image in use by the same
 * program. What comes back opens it.
 */
export function prepareEntrance(entrance: Entrance, access: AccessChoice, log: Log): () => FrontEnds {
  if ("socketPath" in entrance) {
    const { socketPath } = entrance;
    const allowed = socketAccess(socketPath, access);
    vacateSocketPath(socketPath);
    return () => listenAt(socketPath, log, allowed);
  }
  const frontEnds = "fd" in entrance ? adopt(entrance.fd, log) : new Connector(entrance.connect, log);
  return () => frontEnds;
}

/** The same, where a predecessor has front-ends come in. */
export function succeedAtEntrance(entrance: Entrance, inherited: InheritedEntrance, log: Log): FrontEnds {
  if ("connect" in entrance) return new Connector(entrance.connect, log);
  return listenAfter(inherited, "socketPath" in entrance ? entrance.socketPath : undefined, log);
}

export function socketAccess(path: string, { mode, group }: AccessChoice): SocketAccess {
  if (isAbstract(path) && (mode !== undefined || group !== undefined))
    throw new StartError(
      `${path} is an abstract name, which has no group and no mode: choose a path instead`,
    );
  if (group === undefined) return { mode };
  const gid = groupNumber(group);
  if (gid === undefined) throw new StartError(`there is no group ${group}: make it, or give another`);
  return { mode: mode ?? GROUP_MODE, gid };
}
