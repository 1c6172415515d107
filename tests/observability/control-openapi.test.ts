// The control socket and schema/control.openapi.json: each says of the other what is true.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { controlRoutes } from "../../host/observability/control.ts";
import { processRoutes } from "../../host/observability/process.ts";
import openapi from "../../schema/control.openapi.json" with { type: "json" };
import { ManyDisks } from "../support/many-disks.ts";
import { Observed, type Reply } from "../support/observed.ts";

const METHODS = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"];

/** What a request of each operation may have for a body. */
const BODIES: Record<string, string> = {
  setLogLevel: '{"level":"debug"}',
  runCommand: '{"command":"dance"}',
  resizeTerminal: '{"cols":80,"rows":24}',
};

/** A disk has no commands of its own, no console and no screen. Others are 200. */
const STATUS: Record<string, number> = {
  runCommand: 404,
  attachTerminal: 404,
  resizeTerminal: 404,
  detachTerminal: 404,
  screenPicture: 404,
};

/** It ends the daemon, or has no end itself: tested elsewhere. */
const ENDLESS = ["quit", "upgrade", "events"];

type Tag = "device" | "process";

interface Described {
  operationId: string;
  /** At whose socket it is answered. */
  tags: readonly Tag[];
  responses: Record<string, unknown>;
}

const operations = Object.entries(openapi.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, operation]) => {
    if (!METHODS.includes(method.toUpperCase())) return [];
    return { path, method: method.toUpperCase(), operation: operation as Described };
  }),
);

const operationsOf = (tag: Tag) => operations.filter(({ operation }) => operation.tags.includes(tag));
const pathsOf = (tag: Tag) => [...new Set(operationsOf(tag).map(({ path }) => path))];

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addSchema(openapi, "control");

/** Checks a reply against what is described for its status, and returns what it says. */
function validated({ path, method, operation }: (typeof operations)[number], reply: Reply): unknown {
  const status = String(reply.status) in operation.responses ? String(reply.status) : "default";
  const pointer = ["paths", path, method.toLowerCase(), "responses", status].map(escapeToken).join("/");
  const response = resolve(`#/${pointer}`);
  const [type] = Object.keys(response.value.content);
  assert.equal(reply.headers["content-type"], type);
  if (type !== "application/json") return undefined;
  const value = JSON.parse(reply.text);
  const validate = ajv.compile({
    $ref: `control${response.pointer}/content/${encodeURIComponent(escapeToken(type))}/schema`,
  });
  assert.ok(validate(value), `${method} ${path}: ${JSON.stringify(validate.errors)}\n${reply.text}`);
  return value;
}

// biome-ignore lint/suspicious/noExplicitAny: any part of the document
function resolve(pointer: string): { pointer: string; value: any } {
  const tokens = pointer.slice(2).split("/").map(unescapeToken);
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const value = tokens.reduce((part: any, token) => part[token], openapi);
  if (typeof value.$ref === "string") return resolve(value.$ref);
  return { pointer: `#/${tokens.map((token) => encodeURIComponent(escapeToken(token))).join("/")}`, value };
}

function escapeToken(token: string): string {
  return token.replaceAll("~", "~0").replaceAll("/", "~1");
}

function unescapeToken(token: string): string {
  return decodeURIComponent(token).replaceAll("~1", "/").replaceAll("~0", "~");
}

describe("the control socket", { timeout: 180_000 }, () => {
  let observed: Observed;
  let frontEnd: FrontEnd;

  before(async () => {
    observed = await Observed.start({ args: ["--packed", "--num-queues=2"] });
    frontEnd = await FrontEnd.connect(observed.daemon.socketPath, { packed: true, inflight: true });
    // Twice, so that the second time requests are timed.
    for (let i = 0; i < 2; i++) {
      await frontEnd.disk().write(0, Buffer.alloc(4096));
      await frontEnd.disk().read(0, 8);
      await frontEnd.disk().flush();
      await observed.get("/v1/stats");
    }
  });
  after(async () => {
    frontEnd.close();
    await observed[Symbol.asyncDispose]();
  });

  for (const described of operationsOf("device").filter(
    ({ operation }) => !ENDLESS.includes(operation.operationId),
  )) {
    const { path, method, operation } = described;
    test(`answers ${method} ${path} as described`, async () => {
      const reply = await observed.ask(method, path, BODIES[operation.operationId]);
      assert.equal(reply.status, STATUS[operation.operationId] ?? 200, reply.text);
      validated(described, reply);
    });
  }

  for (const path of pathsOf("device")) {
    test(`says what methods ${path} has to those who try another`, async () => {
      const described = operations.filter((each) => each.path === path).map(({ method }) => method);
      const has = described.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
      for (const method of METHODS.filter((each) => !has.includes(each))) {
        const reply = await observed.ask(method, path, method === "GET" ? undefined : "{}");
        assert.deepEqual([reply.status, reply.headers.allow], [405, has.join(", ")], method);
        if (method !== "HEAD") validated(operations.find((each) => each.path === path)!, reply);
      }
    });
  }

  test("answers to nothing that is not described", () => {
    const nothing = {} as never;
    const routes = controlRoutes(nothing, nothing, nothing, nothing, nothing, nothing, () => {});
    const served = Object.entries(routes).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    const described = operationsOf("device").map(({ path, method }) => `${method} ${path}`);
    assert.deepEqual(served.sort(), described.sort());
  });

  for (const path of [
    "/",
    "/v1",
    "/v1/",
    "/v1/status/",
    "/v2/status",
    "/__proto__",
    "/constructor",
    "/%2e%2e",
  ]) {
    test(`has no ${path}`, async () => {
      const reply = await observed.ask("GET", path);
      const { error } = JSON.parse(reply.text);
      assert.equal(reply.status, 404);
      assert.ok(error.startsWith(`there is no ${path} here, but /v1/status, /v1/stats, `), error);
    });
  }

  for (const body of [
    "",
    "debug",
    "null",
    "[]",
    '{"level":"loud"}',
    '{"level":"info","more":1}',
    '{"level":',
  ]) {
    test(`does not take ${JSON.stringify(body)} for a log level`, async () => {
      const reply = await observed.ask("PUT", "/v1/log-level", body);
      assert.equal(reply.status, 400);
      validated(operations.find(({ operation }) => operation.operationId === "setLogLevel")!, reply);
    });
  }

  test("refuses a body that is too long", async () => {
    const reply = await observed.ask("PUT", "/v1/log-level", " ".repeat(4097));
    assert.equal(reply.status, 413);
    validated(operations.find(({ operation }) => operation.operationId === "setLogLevel")!, reply);
  });

  test("ignores what follows a question mark", async () => {
    assert.equal((await observed.ask("GET", "/v1/status?pretty=1")).status, 200);
  });
});

describe("the control socket of a process whose disks come and go", { timeout: 180_000 }, () => {
  let disks: ManyDisks;
  before(async () => {
    disks = await ManyDisks.start(["web", "db"]);
  });
  after(() => disks[Symbol.asyncDispose]());

  for (const described of operationsOf("process").filter(
    ({ operation }) => !ENDLESS.includes(operation.operationId),
  )) {
    const { path, method, operation } = described;
    test(`answers ${method} ${path} as described`, async () => {
      const own = { addDisk: disks.disk("new"), setLogLevel: { level: "debug" } } as Record<string, object>;
      const reply = await disks.ask(method, path.replace("{disk}", "db"), own[operation.operationId]);
      assert.equal(reply.status, operation.operationId === "addDisk" ? 201 : 200, reply.text);
      validated(described, reply);
    });
  }

  for (const [operationId, path, body, status] of [
    ["addDisk", "/v1/disks", {}, 400],
    ["addDisk", "/v1/disks", { name: "web", socket: "/x", "blk-file": "/x" }, 409],
    ["addDisk", "/v1/disks", { name: "x".repeat(4096) }, 413],
    ["removeDisk", "/v1/disks/none", undefined, 404],
    ["removeDisk", "/v1/disks/web?force=1", undefined, 400],
  ] as const)
    test(`answers ${status} to ${operationId} as described`, async () => {
      const described = operations.find(({ operation }) => operation.operationId === operationId)!;
      const reply = await disks.ask(described.method, path, body);
      assert.equal(reply.status, status, reply.text);
      validated(described, reply);
    });

  for (const path of pathsOf("device").filter((each) => !pathsOf("process").includes(each)))
    test(`has no ${path}, which is a device's`, async () => {
      assert.equal((await disks.ask("GET", path)).status, 404);
    });

  test("answers to nothing that is not described", () => {
    const nothing = {} as never;
    const routes = processRoutes("", { one: "disk", many: "disks" } as never, nothing, nothing);
    const served = Object.entries(routes).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    const described = operationsOf("process").map(({ path, method }) => `${method} ${path}`);
    assert.deepEqual(served.sort(), described.sort());
  });
});

test("a daemon that is told to quit by its control socket ends with status 0", async () => {
  await using observed = await Observed.start();
  const described = operations.find(({ operation }) => operation.operationId === "quit")!;
  const reply = await observed.ask(described.method, described.path);
  assert.equal(reply.status, 202);
  validated(described, reply);
  assert.equal(await observed.daemon.end(), 0);
});
