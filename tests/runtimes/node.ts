// The core in Node: node runtime-node.mjs FILE [shared|speed]
import { readFile } from "node:fs/promises";
import { run } from "./program.ts";

const [path, kind] = process.argv.slice(2);
console.log(await run(await readFile(path!), kind));
