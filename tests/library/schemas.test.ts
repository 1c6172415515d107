// The schemas mean what QEMU's vhost-user.json means.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Validator, validateCapabilities, validateDescription } from "../../build/schemas.js";
import { program } from "../../host/devices/block/options.ts";
import ours from "../../schema/50-vringd-blk.json" with { type: "json" };

/** VHostUserBackendType, as of QEMU 10.2. */
const TYPES = "9p balloon block caif console crypto gpu input net rng rpmsg rproc-serial scsi vsock fs".split(
  " ",
);

/** What back-ends print beside them: management software that meets one of these in a description file gives up its whole search. */
const FURTHER_TYPES = ["gpio", "i2c"];

/** VHostUserBackendBlockFeature, ...InputFeature, ...GPUFeature. */
const FEATURES = {
  block: ["read-only", "blk-file"],
  input: ["evdev-path", "no-grab"],
  gpu: ["render-node", "virgl"],
};

/** The example of @VhostUserBackend. */
const EXAMPLE = {
  description: "QEMU vhost-user-gpu",
  type: "gpu",
  binary: "/usr/libexec/qemu/vhost-user-gpu",
  tags: ["CONFIG_OPENGL=y", "CONFIG_GBM=y"],
};

function accepts(validate: Validator, value: unknown): void {
  assert.ok(validate(value), JSON.stringify([value, validate.errors]));
}

function refuses(validate: Validator, value: unknown): void {
  assert.ok(!validate(value), JSON.stringify(value));
}

test("the schema's example of a description is valid", () => {
  accepts(validateDescription, EXAMPLE);
});

test("our own description and capabilities are valid", () => {
  accepts(validateDescription, ours);
  accepts(validateCapabilities, program.capabilities);
});

test("our own description and capabilities name the same type", () => {
  assert.equal(ours.type, program.capabilities.type);
});

test("every type is known, and no other", () => {
  for (const type of TYPES) accepts(validateDescription, { ...EXAMPLE, type });
  for (const type of ["foo", "Block", "", null, 1]) refuses(validateDescription, { ...EXAMPLE, type });
});

test("capabilities know every type of description files, further ones, and no other", () => {
  for (const type of [...TYPES, ...FURTHER_TYPES]) accepts(validateCapabilities, { type, features: [] });
  for (const type of FURTHER_TYPES) refuses(validateDescription, { ...EXAMPLE, type });
  for (const type of ["foo", "I2C", "", null, 1]) refuses(validateCapabilities, { type, features: [] });
});

test("tags are optional, and nothing else is", () => {
  const { tags, ...required } = EXAMPLE;
  accepts(validateDescription, required);
  for (const member of Object.keys(required))
    refuses(validateDescription, { ...EXAMPLE, [member]: undefined });
});

test("a description has no other members", () => {
  refuses(validateDescription, { ...EXAMPLE, tag: [] });
});

test("members of a description have the types of the schema", () => {
  for (const wrong of [{ description: 1 }, { binary: ["/x"] }, { tags: "x" }, { tags: [1] }]) {
    refuses(validateDescription, { ...EXAMPLE, ...wrong });
  }
});

test("a binary has an absolute path", () => {
  for (const binary of ["", "vringd-blk", "./vringd-blk", "~/vringd-blk"]) {
    refuses(validateDescription, { ...EXAMPLE, binary });
  }
});

for (const [type, features] of Object.entries(FEATURES)) {
  test(`capabilities of type ${type} have its features, and no other`, () => {
    accepts(validateCapabilities, { type, features });
    accepts(validateCapabilities, { type, features: [] });
    refuses(validateCapabilities, { type });
    refuses(validateCapabilities, { type, features: ["foo"] });
    for (const [other, foreign] of Object.entries(FEATURES)) {
      if (other !== type) refuses(validateCapabilities, { type, features: foreign });
    }
  });
}

test("capabilities of a type without listed features may have any, or none", () => {
  for (const type of TYPES.filter((type) => !(type in FEATURES))) {
    accepts(validateCapabilities, { type });
    accepts(validateCapabilities, { type, features: ["feature-a", "feature-b"] });
    refuses(validateCapabilities, { type, features: "feature-a" });
    refuses(validateCapabilities, { type, features: [1] });
  }
});

test("capabilities have a known type, and no other members", () => {
  refuses(validateCapabilities, {});
  refuses(validateCapabilities, { type: "foo" });
  refuses(validateCapabilities, { type: "fs", feature: [] });
});

test("what is no object is neither a description nor capabilities", () => {
  for (const value of [null, [], [EXAMPLE], "block", 1, true]) {
    refuses(validateDescription, value);
    refuses(validateCapabilities, value);
  }
});
