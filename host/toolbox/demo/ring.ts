// `vringd demo ring`
import { writeFile } from "node:fs/promises";
import { STATUS_FAILED } from "../../command-line/program.ts";
import { reasonOf } from "../../errors.ts";
import { readOwnFile } from "../../process/own-files.ts";
import { complain, printable, printLines } from "../terminal.ts";
import type { RingOptions } from "./command.ts";
import { servePage } from "./page-server.ts";

export async function ring({ port, output }: RingOptions): Promise<number> {
  const page = await readOwnFile("ring.html");
  return output === undefined ? serve(page, port) : write(page, output);
}

async function write(page: Uint8Array, path: string): Promise<number> {
  try {
    await writeFile(path, page, { flag: "wx" });
  } catch (error) {
    complain(`can't write ${path}: ${reasonOf(error)}`);
    return STATUS_FAILED;
  }
  printLines([`${printable(path)}: open it in a browser`]);
  return 0;
}

async function serve(page: Uint8Array, port: number): Promise<number> {
  try {
    const url = await servePage(page, port);
    printLines([`${url} shows a ring to this machine's browsers; Ctrl-C ends it`]);
  } catch (error) {
    complain(`can't listen on port ${port} of 127.0.0.1: ${reasonOf(error)}`);
    return STATUS_FAILED;
  }
  return 0;
}
