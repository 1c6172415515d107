// The whole terminal for a while: frames that replace each other without flicker, and single keys.
import { stdin, stdout } from "node:process";

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
/** Terminals that know it show all of a frame at once; the others ignore it. */
const BEGIN_FRAME = "\x1b[?2026h\x1b[H";
const END_FRAME = "\x1b[?2026l";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";

export class Screen {
  private readonly leave = () => stdout.write(LEAVE);
  private readonly heard = (keys: Buffer) => this.onKey(keys.toString());
  private readonly resized = () => this.onResize();

  constructor(
    private readonly onKey: (key: string) => void,
    private readonly onResize: () => void,
  ) {
    stdout.write(ENTER);
    // However the process ends, but for SIGKILL.
    process.on("exit", this.leave);
    stdout.on("resize", this.resized);
    if (!stdin.isTTY) return;
    stdin.setRawMode(true);
    stdin.on("data", this.heard);
  }

  get rows(): number {
    return stdout.rows || 24;
  }

  /**
   * Lines that don't fit are left out, and counted. The screen is never cleared as a whole, and a line only right before
   * it is written: behind a line that is as wide as the terminal, that would take its last character.
   */
  draw(lines: readonly string[]): void {
    const { rows } = this;
    const missing = lines.length - rows + 1;
    const shown = lines.length > rows ? [...lines.slice(0, rows - 1), `… ${missing} lines more`] : lines;
    const text = shown.map((line) => CLEAR_LINE + line).join("\n");
    stdout.write(BEGIN_FRAME + text + CLEAR_BELOW + END_FRAME);
  }

  close(): void {
    stdout.off("resize", this.resized);
    process.off("exit", this.leave);
    this.leave();
    if (!stdin.isTTY) return;
    stdin.off("data", this.heard);
    stdin.setRawMode(false);
    stdin.pause();
  }
}
