// rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][?conf=PATH&id=USER&keyring=PATH&mon_host=ADDR]: which image, and how to reach its cluster.
import { StartError } from "../../errors.ts";

export interface RbdTarget {
  /** As it was given. */
  readonly uri: string;
  readonly pool: string;
  /** Empty: the pool's own. */
  readonly namespace: string;
  readonly image: string;
  readonly snapshot?: string | undefined;
  /** Left out: CEPH_CONF, or where else Ceph's clients look. */
  readonly conf?: string | undefined;
  /** Without "client." before it. */
  readonly user: string;
  readonly keyring?: string | undefined;
  readonly monitors?: string | undefined;
}

const SCHEME = "rbd:";
const FORM = "rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]";
const PARAMETERS = new Set(["conf", "id", "keyring", "mon_host"]);
const USER = "admin";

export function isRbdUri(text: string): boolean {
  return text.startsWith(SCHEME);
}

/** Throws a StartError that says what is wrong with the URI. */
export function parseRbdUri(uri: string): RbdTarget {
  const [, spec = "", query] = /^rbd:([^?]*)(?:\?(.*))?$/s.exec(uri) ?? [];
  const [, path = "", snapshot] = /^([^@]*)(?:@(.*))?$/s.exec(spec) ?? [];
  const names = path.split("/").map((name) => decoded(uri, name));
  if (snapshot === "") throw wrong(uri, "there is no name of a snapshot behind the @");
  if (names.length < 2 || names.length > 3 || names.includes("")) throw wrong(uri, `write it as ${FORM}`);
  const parameters = parametersOf(uri, query);
  return {
    uri,
    pool: names[0]!,
    namespace: names.length === 3 ? names[1]! : "",
    image: names.at(-1)!,
    snapshot: snapshot === undefined ? undefined : decoded(uri, snapshot),
    conf: parameters.get("conf"),
    user: parameters.get("id") ?? USER,
    keyring: parameters.get("keyring"),
    monitors: parameters.get("mon_host"),
  };
}

/** As rbd(8) takes it. */
export function specOf({ pool, namespace, image, snapshot }: RbdTarget): string {
  const names = [pool, ...(namespace === "" ? [] : [namespace]), image].join("/");
  return snapshot === undefined ? names : `${names}@${snapshot}`;
}

export function wrong(uri: string, what: string): StartError {
  return new StartError(`can't use ${uri}: ${what}`);
}

function parametersOf(uri: string, query: string | undefined): Map<string, string> {
  const parameters = new Map<string, string>();
  if (query === undefined) return parameters;
  for (const pair of query.split("&")) {
    const [name = "", ...rest] = pair.split("=");
    const value = decoded(uri, rest.join("="));
    if (!PARAMETERS.has(name))
      throw wrong(uri, `nothing is known of its parameter ${name}; there are ${[...PARAMETERS].join(", ")}`);
    if (parameters.has(name)) throw wrong(uri, `it has the parameter ${name} twice`);
    if (value === "") throw wrong(uri, `its parameter ${name} is empty`);
    parameters.set(name, value);
  }
  return parameters;
}

function decoded(uri: string, text: string): string {
  let name: string;
  try {
    name = decodeURIComponent(text);
  } catch {
    throw wrong(uri, `${text} isn't percent-encoded UTF-8; write %25 for a %`);
  }
  if (name.includes("\0")) throw wrong(uri, "no name of Ceph's has a NUL");
  return name;
}
