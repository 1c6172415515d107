// A back-end written with the library, to be killed: a file by a disk in TypeScript. Takes what vringd-blk takes of options.
import { parseArgs } from "node:util";
import { FileDisk, serve } from "vringd";
import { createLog } from "../../host/process/log.ts";

const { values } = parseArgs({
  options: { "blk-file": { type: "string" }, "socket-path": { type: "string" }, packed: { type: "boolean" } },
  strict: false,
});
const stopping = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stopping.abort());
const log = await createLog("info", "text");
const server = await serve({
  disk: await FileDisk.open({ path: String(values["blk-file"]), log }),
  socketPath: String(values["socket-path"]),
  packed: values.packed === true,
  signal: stopping.signal,
  log,
});
log.info("ready with the library");
await server.closed;
