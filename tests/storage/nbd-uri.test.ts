// NBD URIs, as NetworkBlockDevice/nbd doc/uri.md has them.
import assert from "node:assert/strict";
import { userInfo } from "node:os";
import { describe, test } from "node:test";
import { StartError } from "../../host/errors.ts";
import { isNbdUri, parseNbdUri } from "../../host/storage/nbd/uri.ts";

describe("an NBD URI", () => {
  test("is known by its scheme, in any case", () => {
    for (const uri of ["nbd://h", "NBD://h", "nbds://h", "nbd+unix:///?socket=s", "nbds+unix:///", "nbd:h"])
      assert.ok(isNbdUri(uri), uri);
    for (const path of ["nbd", "./nbd://h", "/dev/nbd0", "nbdx://h", "nbd+vsock://1", "disk.img"])
      assert.ok(!isNbdUri(path), path);
  });

  // The table of "NBD URI export name", and what follows from RFC 3986.
  const NAMES: [uri: string, name: string][] = [
    ["nbd://example.com/disk", "disk"],
    ["nbd+unix:///disk?socket=sock", "disk"],
    ["nbd://example.com/", ""],
    ["nbd://example.com", ""],
    ["nbd://example.com?x-connections=2", ""],
    ["nbd://example.com//disk", "/disk"],
    ["nbd://example.com/hello%20world", "hello world"],
    ["nbd://example.com/../a/./b", "../a/./b"],
    ["nbd://example.com/a+b%3Fc%23", "a+b?c#"],
    ["nbd://example.com/%C3%A4", "ä"],
  ];
  for (const [uri, name] of NAMES) {
    test(`${uri} names the export "${name}"`, () => assert.equal(parseNbdUri(uri).exportName, name));
  }

  const ADDRESSES: [uri: string, address: object][] = [
    ["nbd://example.com", { host: "example.com", port: 10809 }],
    ["nbd://example.com:", { host: "example.com", port: 10809 }],
    ["nbd://127.0.0.1:1234/x", { host: "127.0.0.1", port: 1234 }],
    ["nbd://[::1]:1234", { host: "::1", port: 1234 }],
    ["nbd+unix:///?socket=nbd.sock", { path: "nbd.sock" }],
    ["nbd+unix:///?socket=%00/abstract", { path: "\0/abstract" }],
    ["nbd+unix:///?socket=/run/a+b%26c=d", { path: "/run/a+b&c=d" }],
    ["nbds+unix://alice@/?socket=/s", { path: "/s" }],
  ];
  for (const [uri, address] of ADDRESSES) {
    test(`${uri} leads to ${JSON.stringify(address)}`, () =>
      assert.deepEqual(parseNbdUri(uri).address, address));
  }

  test("says how TLS is to be done", () => {
    assert.equal(parseNbdUri("nbd://h").tls, undefined);
    assert.deepEqual(parseNbdUri("nbds://h").tls, { username: userInfo().username, verifyPeer: true });
    const uri = "nbds://alice@h?tls-certificates=/etc/pki&tls-hostname=disk.example&tls-verify-peer=0";
    const expected = {
      certificates: "/etc/pki",
      hostname: "disk.example",
      username: "alice",
      verifyPeer: false,
    };
    assert.deepEqual(parseNbdUri(uri).tls, expected);
  });

  test("says how long to wait for a lost server, and how many connections to open", () => {
    const { reconnectTimeoutMs, connections } = parseNbdUri("nbd://h?x-reconnect-timeout=5&x-connections=4");
    assert.deepEqual([reconnectTimeoutMs, connections], [5000, 4]);
    assert.deepEqual(parseNbdUri("nbd://h").reconnectTimeoutMs, 60_000);
  });

  const WRONG: [uri: string, reason: RegExp][] = [
    ["nbd:h", /must follow the scheme/],
    ["nbd:///x", /names no host/],
    ["nbd+unix:///", /must name a Unix socket, as in nbd\+unix:\/\/\/\?socket=PATH/],
    ["nbd+unix:///?socket=", /must name a Unix socket/],
    ["nbd+unix://h/?socket=/s", /a Unix socket has no host/],
    [`nbd+unix:///?socket=/${"s".repeat(108)}`, /too long/],
    ["nbd+unix:///?socket=/a%00b", /NUL/],
    ["nbd://h/a%00", /NUL/],
    ["nbd://h?socket=/s", /a socket is for nbd\+unix/],
    ["nbd://h:0", /there is no port 0/],
    ["nbd://h:65536", /there is no port 65536/],
    ["nbd://h:port", /isn't a host with a port/],
    ["nbd://h/%zz", /percent-encoded/],
    ["nbd://h/a b", /blanks/],
    ["nbd://h/a#b", /fragment/],
    [`nbd://h/${"n".repeat(4097)}`, /4096 bytes at most/],
    ["nbd://h?sockets=/s", /nothing is known of its parameter sockets/],
    ["nbd://h?x-connections=2&x-connections=2", /twice/],
    ["nbd://h?x-connections=0", /from 1 to 16, not 0/],
    ["nbd://h?x-reconnect-timeout=1e3", /from 0 to 86400, not 1e3/],
    ["nbd://h?tls-hostname=h", /is for nbds:\/\/ and nbds\+unix:\/\//],
    ["nbds://h?tls-verify-peer=no", /is 0 or 1, not no/],
    ["nbds://h?tls-psk-file=/a&tls-certificates=/b", /exclude each other/],
  ];
  for (const [uri, reason] of WRONG) {
    test(`${uri.slice(0, 50)} is refused, with the reason`, () =>
      assert.throws(
        () => parseNbdUri(uri),
        (error) => error instanceof StartError && reason.test(error.message),
      ));
  }
});
