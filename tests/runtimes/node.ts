// The core in Node: node runtime-node.mjs FILE [shared]
import { readFile } from "node:fs/promises";
import { playWith } from "./scenario.ts";

const [path, kind] = process.argv.slice(2);
console.log((await playWith(await readFile(path!), kind === "shared")).join("\n"));
