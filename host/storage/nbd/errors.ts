// How NBD's error values, and a server that is gone, show in the errors of Node.
import { getSystemErrorMap } from "node:util";
import { EINVAL, EIO } from "../../linux/errno.ts";

/** The connection, or the attempt to make one, has ended for this reason; a phrase that follows a colon. */
export class ConnectionError extends Error {}

/** The server, or the network, has ended it. */
export class HungUpError extends ConnectionError {}

/** "Error values": those that a server may send. */
const KNOWN = new Set([1, EIO, 12, EINVAL, 28, 75, 95, 108]);

/** As Node's own: `code` is the name, `errno` the number negated. */
export interface RequestError extends Error {
  code: string;
  errno: number;
}

/** "The client SHOULD treat an unexpected error value as if it had been NBD_EINVAL". */
export function requestError(value: number, what: string): RequestError {
  const errno = -(KNOWN.has(value) ? value : EINVAL);
  const [code, reason] = getSystemErrorMap().get(errno)!;
  return Object.assign(new Error(`${code}: ${reason}, ${what}`), { code, errno });
}
