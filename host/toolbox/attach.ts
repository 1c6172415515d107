// Coming to a back-end at a socket, and saying in one sentence why that did not work.
import { setTimeout as sleep } from "node:timers/promises";
import { ProtocolError, reasonOf, StartError } from "../errors.ts";
import { FrontEnd, type FrontEndOptions, Refused } from "../front-end/front-end.ts";
import { Disconnected, TooLate } from "../front-end/requests.ts";
import { SystemError } from "../linux/libc.ts";
import { connectUnix, SOCKET_PATH_MAX } from "../linux/unix-socket.ts";
import { Connection } from "../protocol/connection.ts";
import { isNoSocket } from "./control-sockets.ts";

export interface Place {
  socketPath: string;
  timeoutMs: number;
}

/** It speaks vhost-user, but has no block device for us. The message is a phrase. */
export class NoBlockDevice extends Error {}

const RETRY_MS = 20;
const OTHERS = "; another front-end may be served";
const ONE_AT_A_TIME = "a back-end serves one at a time";

/**
 * Connects, negotiates, and hands `use` the front-end; leaves the back-end whatever comes. Nothing takes longer than the
 * place's timeout, unless `use` sets `deadlineMs` itself. Throws StartError.
 */
export async function withFrontEnd<T>(
  place: Place,
  options: FrontEndOptions,
  use: (frontEnd: FrontEnd) => Promise<T>,
): Promise<T> {
  const deadlineMs = performance.now() + place.timeoutMs;
  const frontEnd = new FrontEnd(await openSocket(place, deadlineMs));
  frontEnd.deadlineMs = deadlineMs;
  frontEnd.replyTimeoutMs = place.timeoutMs;
  try {
    await frontEnd.negotiate(options);
    return await use(frontEnd);
  } catch (error) {
    throw explained(error, place, frontEnd.hasAnswered);
  } finally {
    frontEnd.close();
  }
}

async function openSocket(place: Place, deadlineMs: number): Promise<Connection> {
  for (;;) {
    try {
      return new Connection(connectUnix(place.socketPath));
    } catch (error) {
      const isFull = error instanceof SystemError && error.code === "EAGAIN";
      if (!isFull || performance.now() > deadlineMs) throw new StartError(whyNoConnection(error, place));
    }
    await sleep(RETRY_MS);
  }
}

function whyNoConnection(error: unknown, { socketPath }: Place): string {
  const { code } = error as SystemError;
  if (error instanceof RangeError)
    return `the socket path is longer than the ${SOCKET_PATH_MAX} bytes that one can have: ${socketPath}`;
  if (code === "ENOENT")
    return `there is no socket at ${socketPath}: start the back-end, or correct the path`;
  if (code === "ECONNREFUSED" && isNoSocket(socketPath)) return `${socketPath} is no socket`;
  if (code === "ECONNREFUSED")
    return `nobody listens at ${socketPath}: its back-end has ended and left the socket behind`;
  if (code === "EAGAIN")
    return `others already wait to be served at ${socketPath}, and ${ONE_AT_A_TIME}: end them first`;
  if (code === "EPROTOTYPE") return `${socketPath} is a socket of another type, and no back-end's`;
  return `can't connect to ${socketPath}: ${reasonOf(error)}`;
}

/** What is no fault of theirs stays as it is: it is one of ours. */
function explained(error: unknown, { socketPath, timeoutMs }: Place, hasAnswered: boolean): unknown {
  const { message } = error as Error;
  const seconds = timeoutMs / 1000;
  if (error instanceof NoBlockDevice)
    return new StartError(`the back-end at ${socketPath} has no block device: ${message}`);
  if (error instanceof Refused)
    return new StartError(
      `the back-end at ${socketPath} won't be used: ${message}${/^SET_VRING_/.test(message) ? OTHERS : ""}`,
    );
  if (error instanceof TooLate) {
    return new StartError(
      hasAnswered
        ? `the back-end at ${socketPath} answered, but not all of it within ${seconds} s (--timeout): ${message}${OTHERS}`
        : `connected to ${socketPath}, but got no answer in ${seconds} s: another front-end may be connected, and ${ONE_AT_A_TIME}`,
    );
  }
  if (error instanceof Disconnected) {
    return new StartError(
      hasAnswered
        ? `the back-end at ${socketPath} closed the connection: ${message}`
        : `what listens at ${socketPath} hung up instead of answering: it is no vhost-user back-end`,
    );
  }
  if (error instanceof ProtocolError)
    return new StartError(`what listens at ${socketPath} is no vhost-user back-end: ${message}`);
  return error;
}
