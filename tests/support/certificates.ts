// A certificate authority for a test, and what it certifies: the files that GnuTLS's programs look for.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Makes ca-cert.pem in the directory, and for the server and the client each a key and a certificate. */
export function makeCertificates(directory: string, { serverName = "localhost" } = {}): void {
  const path = (name: string) => join(directory, name);
  openssl(
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "2",
    "-subj",
    "/CN=vringd test CA",
    "-keyout",
    path("ca-key.pem"),
    "-out",
    path("ca-cert.pem"),
  );
  certify(path, "server", `subjectAltName=DNS:${serverName}\nextendedKeyUsage=serverAuth\n`);
  certify(path, "client", "extendedKeyUsage=clientAuth\n");
}

function certify(path: (name: string) => string, who: string, extensions: string): void {
  openssl(
    "req",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-subj",
    `/CN=${who}`,
    "-keyout",
    path(`${who}-key.pem`),
    "-out",
    path(`${who}.csr`),
  );
  writeFileSync(path(`${who}.ext`), extensions);
  openssl(
    "x509",
    "-req",
    "-days",
    "2",
    "-in",
    path(`${who}.csr`),
    "-CA",
    path("ca-cert.pem"),
    "-CAkey",
    path("ca-key.pem"),
    "-CAcreateserial",
    "-extfile",
    path(`${who}.ext`),
    "-out",
    path(`${who}-cert.pem`),
  );
}

function openssl(...args: string[]): void {
  const { status, stderr, error } = spawnSync("openssl", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`openssl ${args[0]}: ${error?.message ?? stderr}`);
}
