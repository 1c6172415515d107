// The whole terminal for a while: frames that replace each other without flicker, keys, and a shell that may have it in between.
import { stdin, stdout } from "node:process";

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
/** Terminals that know it show all of a frame at once; the others ignore it. */
const BEGIN_FRAME = "\x1b[?2026h\x1b[H";
const END_FRAME = "\x1b[?2026l";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";

export class Screen {
  private readonly heard = (keys: Buffer) => this.onKeys(keys.toString());
  private readonly stopped = () => this.stop();
  private readonly continued = () => this.enter();
  private readonly leave = () => stdout.write(LEAVE);

  constructor(
    private readonly onKeys: (keys: string) => void,
    /** What is there must be drawn anew. */
    private readonly onRedraw: () => void,
  ) {}

  get rows(): number {
    return stdout.rows || 24;
  }

  open(): void {
    this.enter();
    // However the process ends, but for SIGKILL.
    process.on("exit", this.leave);
    process.on("SIGTSTP", this.stopped);
    // Also after SIGSTOP, of which nobody hears.
    process.on("SIGCONT", this.continued);
    stdout.on("resize", this.onRedraw);
    if (stdin.isTTY) stdin.on("data", this.heard);
  }

  /**
   * No more lines than there are rows. The screen is never cleared as a whole, and a line only right before it is written: behind a line that is as wide as the
   * terminal, that would take its last character.
   */
  draw(lines: readonly string[]): void {
    const text = lines
      .map((line, at) => (at < lines.length - 1 ? CLEAR_LINE : CLEAR_BELOW) + line)
      .join("\n");
    stdout.write(BEGIN_FRAME + text + END_FRAME);
  }

  /** Gives the terminal back to the shell until it continues us. */
  stop(): void {
    if (stdin.isTTY) stdin.setRawMode(false);
    this.leave();
    process.off("SIGTSTP", this.stopped);
    // Returns when we are continued; or at once where no shell could do that, and the kernel doesn't stop us.
    process.kill(process.pid, "SIGTSTP");
    process.on("SIGTSTP", this.stopped);
    this.enter();
  }

  close(): void {
    stdout.off("resize", this.onRedraw);
    process.off("SIGTSTP", this.stopped);
    process.off("SIGCONT", this.continued);
    process.off("exit", this.leave);
    this.leave();
    if (!stdin.isTTY) return;
    stdin.off("data", this.heard);
    stdin.setRawMode(false);
    stdin.pause();
  }

  private enter(): void {
    if (stdin.isTTY) {
      // Whoever had it meanwhile has set modes of its own, of which Node doesn't know.
      stdin.setRawMode(false);
      stdin.setRawMode(true);
    }
    stdout.write(ENTER);
    this.onRedraw();
  }
}
