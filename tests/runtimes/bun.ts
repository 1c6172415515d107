// The core in Bun: bun run bun.ts FILE [shared|speed]
import { run } from "./program.ts";

declare const Bun: {
  argv: string[];
  file(path: string): { arrayBuffer(): Promise<ArrayBuffer> };
};

const [, , path, kind] = Bun.argv;
console.log(await run(await Bun.file(path!).arrayBuffer(), kind));
