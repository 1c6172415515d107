// Serves a file for as long as the program's own signal lets it: until Enter. Usage: abort-signal SOCKET-PATH IMAGE
import { argv, stdin } from "node:process";
import { serve } from "vringd";

const [, , socketPath = "", path = ""] = argv;
const controller = new AbortController();
const server = await serve({ disk: { path }, socketPath, engine: "threads", signal: controller.signal });
stdin.once("data", () => {
  controller.abort();
  stdin.destroy();
});
console.log("listening");
await server.closed;
console.log(`closed after ${server.stats().reads} reads`);
