// How options name a host side: KIND:WHERE.
import { isIP } from "node:net";

export const TARGET_KINDS = ["unix", "pty", "file", "tcp", "stdio"] as const;

/** `where`: a path; HOST:PORT; empty for the program's own standard streams. */
export interface HostTarget {
  readonly kind: (typeof TARGET_KINDS)[number];
  readonly where: string;
}

const PORT_MAX = 65535;

/** Undefined if it is none. Of the network only this machine may come. */
export function parseTarget(text: string): HostTarget | undefined {
  const [, name = "", where = ""] = /^([a-z]+)(?::(.*))?$/s.exec(text) ?? [];
  const kind = TARGET_KINDS.find((each) => each === name);
  if (kind === undefined || (kind === "stdio") !== (where === "")) return undefined;
  return kind === "tcp" && !isLoopback(where) ? undefined : { kind, where };
}

function isLoopback(address: string): boolean {
  const [, host = "", port] = /^(.*):(\d{1,5})$/.exec(address) ?? [];
  return isIP(host) === 4 && host.startsWith("127.") && Number(port) <= PORT_MAX;
}
