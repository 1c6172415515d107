// A listening Unix socket for our own user alone.
import type { Server } from "node:http";
import { reasonOf, StartError } from "../errors.ts";
import { listenUnix } from "../linux/unix-socket.ts";
import { removeSocket, vacateSocketPath } from "../protocol/listener.ts";

/** Makes `server` listen at `path`, and returns what removes the socket again. */
export async function listenPrivately(server: Server, path: string): Promise<() => void> {
  vacateSocketPath(path);
  try {
    const fd = listenUnix(path, 0o600);
    const remove = removeSocket(path);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ fd }, resolve);
    });
    return remove;
  } catch (error) {
    throw new StartError(`can't listen on ${path}: ${reasonOf(error)}`);
  }
}
