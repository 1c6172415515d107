// NBD URIs (NetworkBlockDevice/nbd, doc/uri.md): where an export is, and how to get there.
import { userInfo } from "node:os";
import { StartError } from "../../errors.ts";
import { NBD_DEFAULT_PORT, STRING_MAX } from "./protocol.ts";

export interface TlsOptions {
  /** A directory with ca-cert.pem and, if the server wants to know us, client-cert.pem and client-key.pem. */
  certificates?: string;
  /** A file of lines NAME:HEX, as GnuTLS's psktool writes it. */
  pskFile?: string;
  /** Whose line of the PSK file. */
  username: string;
  /** Whose certificate the server's must be. Left out: that of the host in the URI. */
  hostname?: string;
  verifyPeer: boolean;
}

export interface NbdTarget {
  /** As it was given. */
  uri: string;
  address: { path: string } | { host: string; port: number };
  exportName: string;
  tls?: TlsOptions;
  /** How long requests wait for a server that has gone. */
  reconnectTimeoutMs: number;
  /** Connections to open if the server allows several. */
  connections: number;
}

const SCHEME = /^nbds?(\+unix)?:/i;
/** RFC 3986, appendix B, for our schemes: scheme, authority, path and query. Node's URL resolves dots in the path. */
const URI = /^(nbds?(?:\+unix)?):\/\/([^/?#]*)\/?([^?#]*)(?:\?([^#]*))?$/i;
const AUTHORITY = /^(?:([^@]*)@)?(?:\[([^\]]*)\]|([^:]*))(?::(\d{0,5}))?$/;
const RECONNECT_TIMEOUT_S = 60;
const RECONNECT_TIMEOUT_MAX_S = 86_400;
const CONNECTIONS_MAX = 16;
/** sun_path of sockaddr_un, unix(7), without the NUL behind a path. */
const SOCKET_PATH_MAX = 107;

const PARAMETERS = new Set([
  "socket",
  "tls-certificates",
  "tls-hostname",
  "tls-psk-file",
  "tls-username",
  "tls-verify-peer",
  "x-connections",
  "x-reconnect-timeout",
]);

export function isNbdUri(text: string): boolean {
  return SCHEME.test(text);
}

interface Parts {
  uri: string;
  isTls: boolean;
  isUnix: boolean;
  user: string;
  host: string;
  port: string;
  path: string;
  parameters: ReadonlyMap<string, string>;
}

/** Throws a StartError that says what is wrong with the URI. */
export function parseNbdUri(uri: string): NbdTarget {
  const parts = partsOf(uri);
  return {
    uri,
    address: parts.isUnix ? unixAddress(parts) : tcpAddress(parts),
    exportName: exportNameOf(parts),
    ...(parts.isTls && { tls: tlsOptions(parts) }),
    reconnectTimeoutMs:
      1000 * wholeNumber(parts, "x-reconnect-timeout", 0, RECONNECT_TIMEOUT_MAX_S, RECONNECT_TIMEOUT_S),
    connections: wholeNumber(parts, "x-connections", 1, CONNECTIONS_MAX, 1),
  };
}

function wrong(uri: string, what: string): StartError {
  return new StartError(`can't use ${uri}: ${what}`);
}

function partsOf(uri: string): Parts {
  if (uri.includes("#")) throw wrong(uri, "an NBD URI has no fragment; write %23 for #");
  if (/\s/.test(uri)) throw wrong(uri, "a URI has no blanks; write %20");
  const [, scheme, authority, path, query = ""] = URI.exec(uri) ?? [];
  if (scheme === undefined) throw wrong(uri, "// must follow the scheme");
  const [, user = "", literal, name = "", port = ""] = AUTHORITY.exec(authority!) ?? [];
  if (authority !== "" && literal === undefined && name + user === "")
    throw wrong(uri, `${authority} isn't a host with a port`);
  const isTls = /^nbds/i.test(scheme);
  return {
    uri,
    isTls,
    isUnix: scheme.endsWith("unix"),
    user: decoded(uri, user),
    host: literal ?? decoded(uri, name),
    port,
    path: path!,
    parameters: parametersOf(uri, query, isTls),
  };
}

function decoded(uri: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong(uri, `${text} isn't percent-encoded UTF-8`);
  }
}

// Not URLSearchParams: to it a + is a space, which in a URI it isn't.
function parametersOf(uri: string, query: string, isTls: boolean): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const [name, ...rest] = pair.split("=").map((text) => decoded(uri, text));
    // "Any other query parameters which the client does not understand SHOULD be diagnosed."
    if (!PARAMETERS.has(name!)) throw wrong(uri, `nothing is known of its parameter ${name}`);
    if (parameters.has(name!)) throw wrong(uri, `it has the parameter ${name} twice`);
    if (name!.startsWith("tls-") && !isTls) throw wrong(uri, `${name} is for nbds:// and nbds+unix://`);
    parameters.set(name!, rest.join("="));
  }
  return parameters;
}

function unixAddress({ uri, host, parameters }: Parts): { path: string } {
  if (host !== "") throw wrong(uri, "a Unix socket has no host; begin with nbd+unix:///");
  const path = parameters.get("socket");
  if (!path) throw wrong(uri, "it must name a Unix socket, as in nbd+unix:///?socket=PATH");
  // A name in the abstract namespace begins with a NUL ("NBD URI socket parameter").
  if (path.indexOf("\0", 1) > 0) throw wrong(uri, "its socket's path has a NUL");
  if (Buffer.byteLength(path) > SOCKET_PATH_MAX) throw wrong(uri, "its socket's path is too long");
  return { path };
}

function tcpAddress({ uri, host, port, parameters }: Parts): { host: string; port: number } {
  if (parameters.has("socket")) throw wrong(uri, "a socket is for nbd+unix:// and nbds+unix://");
  if (host === "") throw wrong(uri, "it names no host");
  const number = port === "" ? NBD_DEFAULT_PORT : Number(port);
  if (number < 1 || number > 65_535) throw wrong(uri, `there is no port ${port}`);
  return { host, port: number };
}

/** "The path part of the URI except for the leading / character". */
function exportNameOf({ uri, path }: Parts): string {
  const name = decoded(uri, path);
  if (name.includes("\0")) throw wrong(uri, "an export's name has no NUL");
  if (Buffer.byteLength(name) > STRING_MAX)
    throw wrong(uri, `an export's name has ${STRING_MAX} bytes at most`);
  return name;
}

function tlsOptions({ uri, user, parameters }: Parts): TlsOptions {
  const certificates = parameters.get("tls-certificates");
  const pskFile = parameters.get("tls-psk-file");
  const hostname = parameters.get("tls-hostname");
  if (certificates !== undefined && pskFile !== undefined)
    throw wrong(uri, "tls-certificates and tls-psk-file exclude each other");
  return {
    ...(certificates !== undefined && { certificates }),
    ...(pskFile !== undefined && { pskFile }),
    ...(hostname !== undefined && { hostname }),
    // "If the userinfo field is not present […] it SHOULD default to a local operating system credential".
    username: parameters.get("tls-username") || user || userInfo().username,
    verifyPeer: verifiesPeer(uri, parameters.get("tls-verify-peer")),
  };
}

/** 0 and 1 in the specification; libnbd has true and false. */
function verifiesPeer(uri: string, text: string | undefined): boolean {
  if (text === undefined || text === "1" || text === "true") return true;
  if (text === "0" || text === "false") return false;
  throw wrong(uri, `tls-verify-peer is 0 or 1, not ${text}`);
}

function wholeNumber(
  { uri, parameters }: Parts,
  name: string,
  least: number,
  most: number,
  otherwise: number,
): number {
  const text = parameters.get(name);
  if (text === undefined) return otherwise;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw wrong(uri, `${name} is a whole number from ${least} to ${most}, not ${text}`);
}
