// One line of the terminal that is written over and over: on standard error, so that output can be kept.

const ERASE = "\r\u001b[K";
const COLUMNS = 80;

export class RewrittenLine {
  /** Elsewhere nothing is written. */
  readonly isShown = process.stderr.isTTY && process.env.TERM !== "dumb";

  /** What fits: a line that wraps can't be written over. */
  get width(): number {
    return (process.stderr.columns || COLUMNS) - 1;
  }

  write(text: string): void {
    if (this.isShown) process.stderr.write(ERASE + text.slice(0, this.width));
  }

  clear(): void {
    if (this.isShown) process.stderr.write(ERASE);
  }
}
