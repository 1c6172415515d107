// What keys do: which devices are shown, and which line is chosen. Pure.
import { type Arrangement, SORTS } from "./arrangement.ts";

/** A line that keys can choose, and whose it is. */
interface Line {
  socket: string;
}

/** What a key asks of the program. */
export type Wish = "end" | "stop" | undefined;

const FILTER_MAX = 80;

export class Controls implements Arrangement {
  sort = 0;
  isReversed = false;
  filter = "";
  only: string | undefined;
  isPaused = false;
  isHelpShown = false;
  /** The filter is being typed. */
  isTyping = false;
  /** Undefined until a key has chosen one. */
  chosen: number | undefined;
  /** How many lines are above those that are seen. */
  above = 0;
  private choice: { socket: string; at: number } | undefined;
  private lines: readonly Line[] = [];
  private room = 1;

  /** Lines have changed, or how many are seen at a time. What was chosen stays so, wherever it is by now. */
  take(lines: readonly Line[], room: number): void {
    this.lines = lines;
    this.room = Math.max(1, room);
    if (this.choice !== undefined && this.chosen !== undefined) {
      const { socket, at } = this.choice;
      const first = lines.findIndex((line) => line.socket === socket);
      const count = lines.filter((line) => line.socket === socket).length;
      this.choose(first < 0 ? this.chosen : first + Math.min(at, count - 1));
    }
    this.above = Math.max(0, Math.min(this.above, lines.length - this.room));
  }

  press(key: string): Wish {
    if (key === "Ctrl-C") return "end";
    if (key === "Ctrl-Z") return "stop";
    if (this.isHelpShown) this.isHelpShown = false;
    else if (this.isTyping) this.type(key);
    else if (key === "q" || key === "Q") return "end";
    else this.obey(key);
    return undefined;
  }

  private obey(key: string): void {
    const last = this.lines.length - 1;
    const from = this.chosen ?? this.above;
    switch (key) {
      case "?":
      case "h":
        this.isHelpShown = true;
        break;
      case "s":
        this.sort = (this.sort + 1) % SORTS.length;
        break;
      case "S":
        this.sort = (this.sort + SORTS.length - 1) % SORTS.length;
        break;
      case "r":
        this.isReversed = !this.isReversed;
        break;
      case "/":
        this.isTyping = true;
        break;
      case "p":
      case "Space":
        this.isPaused = !this.isPaused;
        break;
      case "Up":
        this.choose(this.chosen === undefined ? from : from - 1);
        break;
      case "Down":
        this.choose(this.chosen === undefined ? from : from + 1);
        break;
      case "PgUp":
        this.choose(from - this.room);
        break;
      case "PgDn":
        this.choose(from + this.room);
        break;
      case "Home":
        this.choose(0);
        break;
      case "End":
        this.choose(last);
        break;
      case "Enter":
        this.only = this.only === undefined ? this.lines[from]?.socket : undefined;
        break;
      case "Esc":
        this.takeBack();
        break;
    }
  }

  private type(key: string): void {
    if (key === "Enter") this.isTyping = false;
    else if (key === "Esc") Object.assign(this, { isTyping: false, filter: "" });
    else if (key === "Backspace") this.filter = [...this.filter].slice(0, -1).join("");
    else if (key === "Space") this.append(" ");
    else if (/^\P{Cc}$/u.test(key)) this.append(key);
  }

  private append(text: string): void {
    if (this.filter.length < FILTER_MAX) this.filter += text;
  }

  /** The last of what was asked for. */
  private takeBack(): void {
    if (this.only !== undefined) this.only = undefined;
    else if (this.filter !== "") this.filter = "";
    else this.chosen = this.choice = undefined;
  }

  private choose(wanted: number): void {
    if (this.lines.length === 0) return;
    const chosen = Math.max(0, Math.min(wanted, this.lines.length - 1));
    const { socket } = this.lines[chosen]!;
    const first = this.lines.findIndex((line) => line.socket === socket);
    this.choice = { socket, at: chosen - first };
    this.chosen = chosen;
    if (chosen < this.above) this.above = chosen;
    if (chosen >= this.above + this.room) this.above = chosen - this.room + 1;
  }
}
