// One start of vringd-blk whose front-end has left already: it is refused, or serves nobody and ends.
import { spawnSync } from "node:child_process";
import { close } from "../../host/linux/libc.ts";
import { unixPair } from "../../host/linux/unix-socket.ts";
import { PROGRAM } from "./vringd.ts";

export interface StartAttempt {
  status: number | null;
  /** Log lines and complaints. */
  stderr: string;
}

export interface StartOptions {
  env?: Readonly<Record<string, string>>;
  /** Finds itself as descriptor 4. */
  inherit?: number;
  /** A shell's words for the path, in place of an argument: it may have any bytes. */
  shellPath?: string;
}

/** No start takes so long, however busy the machine is. */
const HANGS_MS = 120_000;

export function tryToStart(args: readonly string[], options: StartOptions = {}): StartAttempt {
  const { env, inherit = "ignore", shellPath } = options;
  const [near, far] = unixPair();
  close(far);
  const command = [process.execPath, PROGRAM, "--fd=3", ...args];
  // The shell's word comes last, where it is one argument whatever it holds.
  const shell = ["sh", "-c", `exec "$@" "${shellPath}"`, "sh", ...command];
  const [program, ...rest] = shellPath === undefined ? command : shell;
  const { status, stderr } = spawnSync(program!, rest, {
    stdio: ["ignore", "ignore", "pipe", near, inherit],
    env: { ...process.env, ...env },
    timeout: HANGS_MS,
    killSignal: "SIGKILL",
  });
  close(near);
  return { status, stderr: String(stderr) };
}
