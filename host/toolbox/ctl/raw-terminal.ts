// The terminal of this process in raw mode, and as it was before whenever the process ends, but for SIGKILL.
import { closeSync, constants, openSync } from "node:fs";
import type { Writable } from "node:stream";
import { DescriptorStream } from "../../linux/descriptor-stream.ts";
import { makeRaw } from "../../linux/terminal-mode.ts";

const { O_NOCTTY, O_NONBLOCK, O_WRONLY } = constants;

export interface RawTerminal {
  /** What it shows, or what the output of this process is instead. */
  readonly output: Writable;
  restore(): void;
}

/** Standard input is the terminal. */
export function rawTerminal(): RawTerminal {
  const { output, close } = openOutput();
  const setBack = makeRaw(process.stdin.fd);
  process.once("exit", setBack);
  return {
    output,
    restore() {
      close();
      setBack();
      process.off("exit", setBack);
    },
  };
}

/** Node's own stream would stop this process, signals included, whenever the terminal takes nothing more. */
function openOutput(): { output: Writable; close(): void } {
  const { stdout } = process;
  if (!stdout.isTTY) return { output: stdout, close() {} };
  try {
    const fd = openSync(`/proc/self/fd/${stdout.fd}`, O_WRONLY | O_NOCTTY | O_NONBLOCK);
    const output = new DescriptorStream(fd);
    const close = () => {
      output.destroy();
      closeSync(fd);
    };
    return { output, close };
  } catch {
    // A terminal that belongs to somebody else: it was handed over, and can't be opened.
    return { output: stdout, close() {} };
  }
}
