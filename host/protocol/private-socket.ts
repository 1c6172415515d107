// A listening Unix socket for our own user, and for whom the operator lets in.
import type { Server, Socket } from "node:net";
import { reasonOf, StartError } from "../errors.ts";
import { isAbstract, isPeerTrusted, listenUnix } from "../linux/unix-socket.ts";
import { type AccessChoice, socketAccess } from "./entrance.ts";
import { removeSocket, vacateSocketPath } from "./listener.ts";

const OWNER_ONLY = 0o600;

/** Makes `server` listen at `path`, and returns what removes the socket again. `inherited`: a predecessor's, which listens there already. */
export async function listenPrivately(
  server: Server,
  path: string,
  choice: AccessChoice = {},
  inherited?: number,
): Promise<() => void> {
  const access = socketAccess(path, choice);
  if (inherited === undefined) vacateSocketPath(path);
  // Nothing else keeps others away from an abstract name.
  if (isAbstract(path)) server.prependListener("connection", dropStranger);
  try {
    const fd = inherited ?? listenUnix(path, { ...access, mode: access.mode ?? OWNER_ONLY });
    const remove = removeSocket(path);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ fd }, resolve);
    });
    return remove;
  } catch (error) {
    throw new StartError(`can't listen on ${path}: ${reasonOf(error)}`, error);
  }
}

/** Before anything of it is read. */
function dropStranger(socket: Socket): void {
  if (isStranger(socket)) socket.destroy();
}

/** Whether a Unix socket's other end was connected by somebody else than this user and root. */
export function isStranger(socket: Socket): boolean {
  const { fd } = (socket as unknown as { _handle: { fd: number } | null })._handle ?? {};
  return fd === undefined || fd < 0 || !isPeerTrusted(fd);
}
