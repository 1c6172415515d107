// The core in Bun: bun run bun.ts FILE [shared]
import { playWith } from "./scenario.ts";

declare const Bun: {
  argv: string[];
  file(path: string): { arrayBuffer(): Promise<ArrayBuffer> };
};

const [, , path, kind] = Bun.argv;
console.log((await playWith(await Bun.file(path!).arrayBuffer(), kind === "shared")).join("\n"));
