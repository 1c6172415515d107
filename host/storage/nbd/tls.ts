// What node:tls must be told to prove who we are, and to be sure of the server: certificates, or a key that both have.
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import type { ConnectionOptions } from "node:tls";
import { reasonOf, StartError } from "../../errors.ts";
import type { NbdTarget, TlsOptions } from "./uri.ts";

/** Reads the files that the URI names. Throws a StartError that says which is missing or wrong. */
export function tlsOptionsOf({ uri, address, tls }: NbdTarget): ConnectionOptions | undefined {
  if (tls === undefined) return undefined;
  if (tls.pskFile !== undefined) return pskOptions(tls.pskFile, tls.username);
  const name = tls.hostname ?? ("host" in address ? address.host : undefined);
  if (name === undefined && tls.verifyPeer)
    throw new StartError(`can't use ${uri}: tls-hostname is missing, the name in the server's certificate`);
  return {
    // "NBD implementations supporting TLS MUST support TLS version 1.2" ("TLS versions").
    minVersion: "TLSv1.2",
    rejectUnauthorized: tls.verifyPeer,
    // The name that the certificate is checked against; an address is no name to ask for (RFC 6066, 3).
    ...(name !== undefined && { host: name, ...(isIP(name) === 0 && { servername: name }) }),
    ...certificatesOf(tls),
  };
}

/** Names of the files as GnuTLS's programs, nbdkit, libnbd and QEMU know them. */
function certificatesOf({ certificates }: TlsOptions): ConnectionOptions {
  if (certificates === undefined) return {};
  const ca = read(join(certificates, "ca-cert.pem"));
  const cert = read(join(certificates, "client-cert.pem"), "optional");
  const key = read(join(certificates, "client-key.pem"), cert === undefined ? "optional" : "needed");
  return { ...(ca && { ca }), ...(cert && key && { cert, key }) };
}

function pskOptions(path: string, username: string): ConnectionOptions {
  const lines = read(path)!.toString("latin1").split("\n");
  const line = lines.find((text) => text.startsWith(`${username}:`));
  const hex = line?.slice(username.length + 1).trim();
  if (hex === undefined)
    throw new StartError(`${path} has no key for ${username}; name another with tls-username`);
  if (!/^([0-9a-f]{2})+$/i.test(hex))
    throw new StartError(`the key for ${username} in ${path} isn't hexadecimal`);
  return {
    minVersion: "TLSv1.2",
    // With 1.3 OpenSSL ties the key to one hash, and servers to another.
    maxVersion: "TLSv1.2",
    ciphers: "PSK",
    pskCallback: () => ({ psk: Buffer.from(hex, "hex"), identity: username }),
    // That the server has the key too proves who it is; there is no certificate.
    checkServerIdentity: () => undefined,
  };
}

function read(path: string, need: "needed" | "optional" = "needed"): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if (need === "optional" && (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new StartError(`can't read ${path}: ${reasonOf(error)}`, error);
  }
}
