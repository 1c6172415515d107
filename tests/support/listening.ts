// Whether somebody listens at a Unix socket. Its file alone does not tell: between bind(2) and listen(2) whoever connects is refused.
import { readFileSync } from "node:fs";

/** Flags (__SO_ACCEPTCON) and path of a line of /proc/net/unix. */
const LISTENING = / 00010000 .*? (\/.*)$/;

export function isListening(socketPath: string): boolean {
  const lines = readFileSync("/proc/net/unix", "utf8").split("\n");
  return lines.some((line) => LISTENING.exec(line)?.[1] === socketPath);
}
