// Standard output and standard error as our programs write to them: neither may end a program by an exception.
import { writeSync } from "node:fs";
import { getSystemErrorMap } from "node:util";

const STDERR = 2;
const STATUS_FAILED = 1;

/**
 * A reader that has seen enough, such as head, is no failure; an output that takes nothing is one, in a sentence. Node
 * makes pipes and sockets non-blocking when it is asked for these streams: whoever stops reading the log holds up nothing.
 */
export function guardOutput(name: string): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit();
    const reason = getSystemErrorMap().get(error.errno ?? 0)?.[1] ?? error.message;
    writeError(`${name}: can't write to standard output: ${reason}\n`);
    process.exit(STATUS_FAILED);
  });
  // Whoever doesn't read it hears nothing; the exit status still says what came of it.
  process.stderr.on("error", () => {});
}

/** To standard error, as far as it takes it. */
export function writeError(text: string): void {
  try {
    writeSync(STDERR, text);
  } catch {
    // Full, or closed.
  }
}
