// Runs one piece of work on an overlay: with its progress shown, and ended in good order by a signal.
import { STATUS_FAILED } from "../../command-line/program.ts";
import { reasonOf, StartError } from "../../errors.ts";
import { Interrupted, type Work } from "../../storage/work.ts";
import { Interruption } from "../interruption.ts";
import { Progress } from "../progress.ts";
import { complain, printLines, terminalWidth, wrap } from "../terminal.ts";

export interface Sentences {
  /** Such as "committing". */
  doing: string;
  /** What is left after a signal. */
  interrupted: string;
  /** What is left after a failure, such as of a full disk. */
  failed: string;
}

/** Resolves with the exit status. `work` resolves with what is to be said of its end. Throws StartError. */
export async function working(
  { doing, interrupted, failed }: Sentences,
  work: (work: Work) => Promise<string>,
): Promise<number> {
  using interruption = new Interruption();
  const progress = new Progress(doing);
  try {
    const sentence = await work({
      progress: (done, total) => progress.update(done, total),
      signal: interruption.signal,
    });
    progress.clear();
    printLines(wrap(sentence, terminalWidth()));
    return 0;
  } catch (error) {
    progress.clear();
    if (error instanceof StartError) throw error;
    const isInterrupted = error instanceof Interrupted || interruption.signal.aborted;
    complain(isInterrupted ? interrupted : `${failed}: ${reasonOf(error)}`);
    return (isInterrupted ? interruption.status : undefined) ?? STATUS_FAILED;
  }
}
