// The core in Deno: deno run --allow-read deno.ts FILE [shared]
import { playWith } from "./scenario.ts";

declare const Deno: {
  args: string[];
  readFile(path: string): Promise<Uint8Array<ArrayBuffer>>;
};

const [path, kind] = Deno.args;
console.log((await playWith(await Deno.readFile(path!), kind === "shared")).join("\n"));
