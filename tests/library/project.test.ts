// The package in a project of somebody's, who has installed it from what npm would publish: the examples run there as they are, by
// the package's name, and compile with the types that come with it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { features } from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ChainDriver, connectDevice } from "../support/chain-driver.ts";
import { Project, ROOT } from "../support/installation.ts";
import { until } from "../support/until.ts";

const EXAMPLES = `${ROOT}/tests/examples`;
/** The same without types. */
const STRIPPED = fileURLToPath(new URL("examples/", import.meta.url));
/** Node from 22.18 on runs TypeScript itself. */
const RUNS_TYPESCRIPT = Boolean((features as { typescript?: unknown }).typescript);
const REQUESTS = 50;

describe("in an empty directory, with the packed package", { timeout: 900_000 }, () => {
  let project: Project;
  before(() => {
    project = Project.make();
  });
  after(() => project.remove());

  test("there is what was packed, and nothing was built", () => {
    const installed = readdirSync(project.path("node_modules"));
    assert.deepEqual(
      installed.filter((name) => !name.startsWith(".")),
      ["@koromix", "koffi", "vringd"],
    );
    for (const path of ["node_modules", "host/library", "tests"])
      assert.ok(!existsSync(project.path("node_modules/vringd", path)), path);
  });

  test("the example of a device serves a driver of entropy devices", async () => {
    const name = RUNS_TYPESCRIPT ? "dice-device.ts" : "dice-device.mjs";
    cpSync(`${RUNS_TYPESCRIPT ? EXAMPLES : STRIPPED}/${name}`, project.path(name));
    const socketPath = project.path("dice.sock");
    const child = spawn(process.execPath, [name, socketPath], {
      cwd: project.directory,
      env: { PATH: process.env.PATH },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const output = collect(child);
    const ended = once(child, "close");
    try {
      await until(() => output.text.includes("listening") || child.exitCode !== null, "it listens");
      await using frontEnd = await connectDevice(socketPath, { queues: 1, queueSize: 16 });
      const driver = new ChainDriver(frontEnd, 0);
      const counts = new Array<number>(7).fill(0);
      for (let i = 0; i < REQUESTS; i++) {
        const throws = await driver.exchange([], [40, 24]);
        assert.equal(throws.length, 64);
        for (const value of throws) counts[value]!++;
      }
      // Each number comes, and no other.
      assert.deepEqual(
        counts.map((count) => count > 0),
        [false, true, true, true, true, true, true],
      );
      frontEnd.close();
      await until(() => output.text.includes(`${64 * REQUESTS} throws in ${REQUESTS} requests`), "it counts");
      child.kill("SIGTERM");
      assert.deepEqual(await ended, [0, null]);
      assert.ok(!existsSync(socketPath));
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  });

  test("the examples compile, in a program that has settings of its own", () => {
    mkdirSync(project.path("node_modules/@types"));
    symlinkSync(`${ROOT}/node_modules/@types/node`, project.path("node_modules/@types/node"));
    cpSync(EXAMPLES, project.path("src"), { recursive: true });
    writeFileSync(project.path("src/core.ts"), CORE_USER);
    const compilerOptions = {
      target: "es2022",
      module: "nodenext",
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      lib: ["es2024", "dom", "esnext.disposable"],
      types: ["node"],
    };
    writeFileSync(project.path("tsconfig.json"), JSON.stringify({ compilerOptions, include: ["src"] }));
    assert.deepEqual(compile(project), { status: 0, stdout: "" });
    // A program for Node has no use for the types of browsers.
    const forNode = { ...compilerOptions, lib: ["es2022", "esnext.disposable"] };
    writeFileSync(project.path("src-node.ts"), CORE_USER_IN_NODE);
    writeFileSync(
      project.path("tsconfig.json"),
      JSON.stringify({ compilerOptions: forNode, files: ["src-node.ts"] }),
    );
    assert.deepEqual(compile(project), { status: 0, stdout: "" });
    writeFileSync(project.path("tsconfig.json"), JSON.stringify({ compilerOptions, include: ["src"] }));
    // What the types forbid is found, so they are more than `any`.
    writeFileSync(project.path("src/wrong.ts"), WRONG_DEVICE);
    const { status, stdout } = compile(project);
    assert.notEqual(status, 0);
    assert.match(stdout, /^src\/wrong\.ts\(\d+,\d+\): error TS\d+: .*credit/ms);
  });
});

function compile({ directory }: Project): { status: number | null; stdout: string } {
  const tsc = `${ROOT}/node_modules/typescript/bin/tsc`;
  const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", "."], {
    cwd: directory,
    encoding: "utf8",
  });
  return { status, stdout };
}

function collect(child: ChildProcess): { text: string } {
  const output = { text: "" };
  child.stdout!.on("data", (part) => {
    output.text += part;
  });
  return output;
}

const CORE_USER = `
import { type Core, layout, loadCore } from "vringd/core";
const memory = new WebAssembly.Memory({ initial: 1024, maximum: 65536, shared: true });
const core: Core = await loadCore({ memory, source: fetch("core.wasm") });
export const isWaiting: boolean = (core.step() & layout.STEP_WAIT) !== 0;
`;

const CORE_USER_IN_NODE = `
import { type Core, layout, loadCore } from "vringd/core";
import { serve, StartError, type VirtioDevice } from "vringd";
export type Memory = Parameters<typeof loadCore>[0]["memory"];
export async function start(memory: Memory, device: VirtioDevice): Promise<boolean> {
  const core: Core = await loadCore({ memory });
  return (core.step() & layout.STEP_WAIT) !== 0;
}
export const isTaken = (error: unknown) => error instanceof StartError && error.code === "EADDRINUSE";
export { serve };
`;

/** Its queue does not say who has the first word. */
const WRONG_DEVICE = `
import type { VirtioDevice } from "vringd";
export const device: VirtioDevice = {
  type: "wrong",
  virtioId: 4,
  features: 0n,
  queues: [{ name: "requestq", recover: "repeat" }],
  start() {},
};
`;
