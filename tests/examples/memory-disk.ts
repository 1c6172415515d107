// A disk of 64 MiB in memory, until Ctrl-C. Usage: memory-disk SOCKET-PATH
import { argv } from "node:process";
import { MemoryDisk, serve } from "vringd";

const server = await serve({ disk: new MemoryDisk(64n << 20n), socketPath: argv[2]! });
server.on("connect", () => console.log("a guest has come"));
server.on("disconnect", ({ reads, writes }) => console.log(`it has left: ${reads} reads, ${writes} writes`));
process.once("SIGINT", () => server.close());
process.once("SIGTERM", () => server.close());
console.log("listening");
