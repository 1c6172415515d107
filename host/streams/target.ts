// How options name a host side, KIND:WHERE, and who ends there, NAME=KIND:WHERE.
import { isIP } from "node:net";
import type { OptionType } from "../options/types.ts";

export const TARGET_KINDS = ["unix", "pty", "file", "tcp", "stdio", "none"] as const;

/** Those that are nowhere else. */
const WITHOUT_PLACE: readonly string[] = ["stdio", "none"];

/** `where`: a path; HOST:PORT; empty for the program's own standard streams, and for nothing. */
export interface HostTarget {
  readonly kind: (typeof TARGET_KINDS)[number];
  readonly where: string;
}

/** The target of something that has a name. */
export type NamedTarget = HostTarget & { readonly name: string };

export const namedTarget: OptionType<NamedTarget> = {
  takes: "NAME=unix:PATH, NAME=pty:LINK, NAME=file:PATH, NAME=tcp:127.0.0.1:PORT, NAME=stdio or NAME=none",
  read(text) {
    const [, name, target] = /^([^=]{1,64})=(.*)$/s.exec(text) ?? [];
    const parsed = parseTarget(target ?? "");
    return name && parsed ? { name, ...parsed } : undefined;
  },
  accepts: (value): value is NamedTarget => typeof value === "object",
};

const PORT_MAX = 65535;

/** Undefined if it is none. Of the network only this machine may come. */
export function parseTarget(text: string): HostTarget | undefined {
  const [, name = "", where = ""] = /^([a-z]+)(?::(.*))?$/s.exec(text) ?? [];
  const kind = TARGET_KINDS.find((each) => each === name);
  if (kind === undefined || WITHOUT_PLACE.includes(kind) !== (where === "")) return undefined;
  return kind === "tcp" && !isLoopback(where) ? undefined : { kind, where };
}

function isLoopback(address: string): boolean {
  const [, host = "", port] = /^(.*):(\d{1,5})$/.exec(address) ?? [];
  return isIP(host) === 4 && host.startsWith("127.") && Number(port) <= PORT_MAX;
}
