// `vringd top` on a terminal, until its user ends it.
import { setTimeout as sleep } from "node:timers/promises";
import { terminalWidth } from "../terminal.ts";
import { Controls } from "./controls.ts";
import { frame } from "./frame.ts";
import { keysIn } from "./keys.ts";
import { Screen } from "./screen.ts";
import type { Look, Watch } from "./watch.ts";

export class Live {
  private readonly controls = new Controls();
  private readonly ending = new AbortController();
  private readonly screen = new Screen(
    (text) => this.press(text),
    () => this.draw(),
  );
  /** Undefined until all have answered for the first time. */
  private looks: readonly Look[] | undefined;

  constructor(
    private readonly watch: Watch,
    private readonly intervalSeconds: number,
  ) {}

  async run(): Promise<void> {
    const { signal } = this.ending;
    this.screen.open();
    try {
      while (!signal.aborted) {
        const looks = await this.watch.look();
        // They are asked on while it is paused: what is shown then is of the last interval, not of all the pause.
        if (!this.controls.isPaused) this.looks = looks;
        this.draw();
        await sleep(this.intervalSeconds * 1000, undefined, { signal }).catch(() => {});
      }
    } finally {
      this.screen.close();
    }
  }

  private press(text: string): void {
    for (const key of keysIn(text)) {
      const wish = this.controls.press(key);
      if (wish === "end") this.ending.abort();
      else if (wish === "stop") this.screen.stop();
      else this.draw();
    }
  }

  private draw(): void {
    if (this.looks === undefined) return;
    const { rows } = this.screen;
    this.screen.draw(
      frame(this.looks, this.intervalSeconds, this.controls, { width: terminalWidth(), rows }),
    );
  }
}
