// Other vendors' back-ends, as Debian's packages install them: their files, and their programs.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import type { BackendType } from "../../build/schemas.js";
import { discover } from "../../host/discovery/discovery.ts";
import { skipWithout } from "../support/skip.ts";

const DIRECTORY = "/usr/share/qemu/vhost-user";
const AMPLE_MS = 20_000;

const shipped: [name: string, type: BackendType, features: string[], debianPackage: string][] = [
  ["50-qemu-virtiofsd.json", "fs", [], "qemu-system-common"],
  ["50-qemu-gpu.json", "gpu", ["render-node", "virgl"], "qemu-system-gui"],
];

for (const [name, type, features, debianPackage] of shipped) {
  const isThere = existsSync(`${DIRECTORY}/${name}`);
  const skip = skipWithout(isThere ? undefined : `${name} is not installed; it comes with ${debianPackage}`);

  test(`${name} is found, and its program says what it can do`, { skip }, async () => {
    const { findings } = await discover([DIRECTORY], { type, features }, AMPLE_MS);
    const finding = findings.find((each) => each.name === name)!;
    assert.equal(finding.reason, `it is the first ${type} back-end that fits`);
    assert.equal(finding.capabilities!.type, type);
    assert.deepEqual(finding.warnings, []);
  });
}
