// Where Prometheus gets the metrics: a Unix socket, or a port that only this machine reaches.
import { isIP } from "node:net";

export type MetricsAddress = { path: string } | { host: string; port: number };

const PORT_MAX = 65535;

/** Undefined if it is neither unix:PATH nor a port of a loopback address. */
export function parseMetricsAddress(text: string): MetricsAddress | undefined {
  const path = /^unix:(.+)$/s.exec(text)?.[1];
  if (path !== undefined) return { path };
  const [, inBrackets, plain, digits] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? [];
  const host = plain === "localhost" ? "127.0.0.1" : (inBrackets ?? plain ?? "");
  const port = Number(digits);
  const isLoopback = inBrackets === undefined ? isIP(host) === 4 && host.startsWith("127.") : host === "::1";
  return isLoopback && port > 0 && port <= PORT_MAX ? { host, port } : undefined;
}

export function formatMetricsAddress(address: MetricsAddress): string {
  if ("path" in address) return `unix:${address.path}`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
