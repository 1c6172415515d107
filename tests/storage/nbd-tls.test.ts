// NBD over TLS: certificates, keys that both sides have, and everything that must keep a connection from coming about.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { StartError } from "../../host/errors.ts";
import { openNbdDisk } from "../../host/storage/nbd/disk.ts";
import { makeCertificates } from "../support/certificates.ts";
import { FakeNbdServer } from "../support/nbd-fake.ts";
import { LineLog } from "../support/nbd-log.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { Random } from "../support/random.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { until } from "../support/until.ts";

const skip = skipWithout(nbdUnavailable(), whyNoProgram("openssl"));
const SIZE = 1 << 20;

const pki = mkdtempSync(join(tmpdir(), "vringd-pki-"));
after(() => rmSync(pki, { recursive: true }));

/** The same with another authority. */
const otherPki = join(pki, "other");
const pskFile = join(pki, "keys.psk");

async function open(uri: string, log = new LineLog()) {
  const disk = await openNbdDisk(uri, { readOnly: false, log: log.log });
  return Object.assign(disk, { [Symbol.asyncDispose]: () => disk.close!() });
}

const refuses = (uri: string, reason: RegExp) =>
  assert.rejects(open(uri), (error: Error) => {
    assert.ok(error instanceof StartError, error.stack);
    assert.match(error.message, reason);
    return true;
  });

const secure = (uri: string) => uri.replace(/^nbd/, "nbds");

describe("an NBD export over TLS", { skip }, () => {
  if (!skip) {
    mkdirSync(otherPki);
    makeCertificates(pki);
    makeCertificates(otherPki);
    writeFileSync(pskFile, `bob:${"ab".repeat(32)}\nalice:${"0123456789abcdef".repeat(4)}\n`);
  }
  const withCertificates = (...args: string[]) => ({
    args: () => ["--tls=require", `--tls-certificates=${pki}`, ...args, "memory", "1M"],
  });
  const certificates = `tls-certificates=${pki}`;

  for (const tcp of [false, true]) {
    test(`holds what was written, over ${tcp ? "TCP" : "a Unix socket"}`, async () => {
      await using server = await NbdServer.start({ tcp, ...withCertificates() });
      await using disk = await open(secure(server.uri("", certificates, "tls-hostname=localhost")));
      const bytes = new Random(3).bytes(SIZE);
      await disk.write!(0n, [bytes.subarray(0, 1000), bytes.subarray(1000)]);
      const now = Buffer.alloc(SIZE);
      await Promise.all(
        Array.from({ length: 64 }, (_, i) =>
          disk.read(BigInt((i * SIZE) / 64), [now.subarray((i * SIZE) / 64, ((i + 1) * SIZE) / 64)]),
        ),
      );
      assert.ok(now.equals(bytes));
      await disk.flush!();
    });
  }

  test("comes back after the server was killed", async () => {
    await using server = await NbdServer.start(withCertificates());
    const log = new LineLog();
    await using disk = await open(secure(server.uri("", certificates, "tls-hostname=localhost")), log);
    await server.kill9();
    const read = disk.read(0n, [Buffer.alloc(4096)]);
    await until(() => log.like(/server lost/).length === 1, "it is noticed");
    await server.restart();
    await read;
  });

  test("needs the client's certificate where the server asks for it", async () => {
    await using server = await NbdServer.start(withCertificates("--tls-verify-peer"));
    await using disk = await open(secure(server.uri("", certificates, "tls-hostname=localhost")));
    await disk.read(0n, [Buffer.alloc(512)]);
    const anonymous = join(pki, "anonymous");
    mkdirSync(anonymous);
    spawnSync("cp", [join(pki, "ca-cert.pem"), anonymous]);
    await refuses(
      secure(server.uri("", `tls-certificates=${anonymous}`, "tls-hostname=localhost")),
      /TLS|it may want a client certificate$/,
    );
  });

  test("is refused when the certificate is another host's, another authority's, or nobody asks whose", async () => {
    await using server = await NbdServer.start(withCertificates());
    await refuses(
      secure(server.uri("", certificates, "tls-hostname=disk.example")),
      /TLS: Hostname\/IP does not match certificate's altnames: Host: disk.example/,
    );
    await refuses(
      secure(server.uri("", `tls-certificates=${otherPki}`, "tls-hostname=localhost")),
      /TLS: .*certificate/,
    );
    await refuses(secure(server.uri("", certificates)), /tls-hostname is missing/);
    await using disk = await open(secure(server.uri("", "tls-verify-peer=0")));
    await disk.read(0n, [Buffer.alloc(512)]);
  });

  test("is refused without TLS when the server insists on it, and with TLS when it has none", async () => {
    await using insists = await NbdServer.start(withCertificates());
    await refuses(insists.uri(), /the server wants TLS for the default export: use nbds:/);
    await using plain = await NbdServer.start({ args: () => ["memory", "1M"] });
    await refuses(secure(plain.uri("", certificates, "tls-hostname=localhost")), /the server has no TLS/);
  });

  test("works with a key that both sides have, and not with another", async () => {
    const psk = join(pki, "server.psk");
    writeFileSync(psk, `alice:${"0123456789abcdef".repeat(4)}\nbob:${"cd".repeat(32)}\n`);
    await using server = await NbdServer.start({
      args: () => ["--tls=require", `--tls-psk=${psk}`, "memory", "1M"],
    });
    await using disk = await open(secure(server.uri("", `tls-psk-file=${pskFile}`, "tls-username=alice")));
    const bytes = new Random(4).bytes(4096);
    await disk.write!(0n, [bytes]);
    const now = Buffer.alloc(4096);
    await disk.read(0n, [now]);
    assert.ok(now.equals(bytes));
    await refuses(secure(server.uri("", `tls-psk-file=${pskFile}`, "tls-username=bob")), /TLS: /);
    await refuses(
      secure(server.uri("", `tls-psk-file=${pskFile}`, "tls-username=carol")),
      /has no key for carol/,
    );
  });

  test("is refused when somebody puts words of his own before the TLS", async () => {
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.greet();
      const { option } = await peer.option();
      assert.equal(option, 5);
      peer.write([64, 0x3e889045565a9n], [32, option], [32, 1], [32, 0], Buffer.from("injected"));
      await peer.read(1);
    });
    await refuses(
      secure(server.uri(certificates, "tls-hostname=localhost")),
      /sent more before TLS had begun/,
    );
  });
});
