// A request at a Unix socket by another user than ours.
import { spawnSync } from "node:child_process";
import type { Reply } from "./observed.ts";

const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

const SCRIPT = `
const [socketPath, method, path, body] = process.argv.slice(1);
const headers = { "content-length": Buffer.byteLength(body) };
const sent = require("node:http").request({ socketPath, method, path, headers }, (response) => {
  let text = "";
  response.setEncoding("utf8").on("data", (part) => (text += part));
  response.on("end", () => console.log(JSON.stringify({ status: response.statusCode, text })));
});
sent.end(body);
`;

/** Of a process of root's. */
export function askAsNobody(socket: string, method: string, path: string, body = ""): Omit<Reply, "headers"> {
  const [command, ...args] = [...NOBODY, process.execPath, "-e", SCRIPT, socket, method, path, body];
  const { stdout, stderr } = spawnSync(command!, args, { encoding: "utf8" });
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout);
}
