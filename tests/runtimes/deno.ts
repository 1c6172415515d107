// The core in Deno: deno run --allow-read deno.ts FILE [shared|speed]
import { run } from "./program.ts";

declare const Deno: {
  args: string[];
  readFile(path: string): Promise<Uint8Array>;
};

const [path, kind] = Deno.args;
console.log(await run(await Deno.readFile(path!), kind));
