// What rbd: URIs mean, and what is said of those that mean nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { StartError } from "../../host/errors.ts";
import { isRbdUri, parseRbdUri, type RbdTarget, specOf } from "../../host/storage/rbd/uri.ts";

const DEFAULTS = {
  namespace: "",
  snapshot: undefined,
  conf: undefined,
  user: "admin",
  keyring: undefined,
  monitors: undefined,
};

const GOOD: [uri: string, target: Partial<RbdTarget>, spec: string][] = [
  ["rbd:pool/image", { pool: "pool", image: "image" }, "pool/image"],
  ["rbd:pool/tenant/image", { pool: "pool", namespace: "tenant", image: "image" }, "pool/tenant/image"],
  ["rbd:pool/image@monday", { pool: "pool", image: "image", snapshot: "monday" }, "pool/image@monday"],
  [
    "rbd:p/i?conf=/etc/ceph/a.conf&id=vm1&keyring=/k&mon_host=[v2:192.0.2.1:3300],192.0.2.2",
    {
      pool: "p",
      image: "i",
      conf: "/etc/ceph/a.conf",
      user: "vm1",
      keyring: "/k",
      monitors: "[v2:192.0.2.1:3300],192.0.2.2",
    },
    "p/i",
  ],
  [
    "rbd:p/a%3fb%25@s%2Fx?conf=/a%26b",
    { pool: "p", image: "a?b%", snapshot: "s/x", conf: "/a&b" },
    "p/a?b%@s/x",
  ],
];

for (const [uri, target, spec] of GOOD) {
  test(`${uri} names ${spec}`, () => {
    assert.ok(isRbdUri(uri));
    const parsed = parseRbdUri(uri);
    assert.deepEqual(parsed, { uri, ...DEFAULTS, ...target });
    assert.equal(specOf(parsed), spec);
  });
}

const BAD: [uri: string, reason: RegExp][] = [
  ["rbd:", /write it as rbd:POOL/],
  ["rbd:image", /write it as rbd:POOL/],
  ["rbd:pool/", /write it as rbd:POOL/],
  ["rbd:/image", /write it as rbd:POOL/],
  ["rbd:a/b/c/d", /write it as rbd:POOL/],
  ["rbd:pool/image@", /no name of a snapshot behind the @/],
  [
    "rbd:pool/image?user=vm1",
    /nothing is known of its parameter user; there are conf, id, keyring, mon_host/,
  ],
  ["rbd:pool/image?", /nothing is known of its parameter/],
  ["rbd:pool/image?id=a&id=b", /it has the parameter id twice/],
  ["rbd:pool/image?id=", /its parameter id is empty/],
  ["rbd:pool/im%age", /isn't percent-encoded UTF-8; write %25 for a %/],
  ["rbd:pool/im%00age", /has a NUL/],
];

for (const [uri, reason] of BAD) {
  test(`${JSON.stringify(uri)} is refused`, () => {
    assert.throws(
      () => parseRbdUri(uri),
      (error) =>
        error instanceof StartError &&
        error.message.startsWith(`can't use ${uri}: `) &&
        reason.test(error.message),
    );
  });
}

test("other names are no RBD images", () => {
  for (const name of ["/var/lib/rbd", "rbd", "nbd://host/rbd:a", "./rbd:pool/image", "RBD:pool/image"])
    assert.ok(!isRbdUri(name));
});
