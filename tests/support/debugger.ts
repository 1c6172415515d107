// Whether Node has opened its debugger in a process, as it does by itself at SIGUSR1.
import { readFileSync } from "node:fs";

/** 127.0.0.1:9229, in hexadecimal. */
const ADDRESS = "0100007F:240D";
const LISTENING = / 0A /;

/** Sees all of the process's network namespace: no other process there may have one. */
export function listensForDebuggers(pid: number): boolean {
  const table = readFileSync(`/proc/${pid}/net/tcp`, "latin1");
  return table.split("\n").some((line) => line.includes(ADDRESS) && LISTENING.test(line));
}
