// `vringd top`

import { setTimeout as sleep } from "node:timers/promises";
import { STATUS_FAILED } from "../../command-line/program.ts";
import { nothingFound } from "../control-sockets.ts";
import type { TopOptions } from "../observe.ts";
import { complain, paint, printJson, printLines, terminalWidth, wrap } from "../terminal.ts";
import { Screen } from "./screen.ts";
import { legendLines, viewLines } from "./view.ts";
import { type Look, Watch } from "./watch.ts";

const CTRL_C = "\x03";

export async function top(sockets: readonly string[], options: TopOptions): Promise<number> {
  const watch = new Watch(sockets, options.timeout * 1000);
  const isLive = !options.once && !options.json && process.stdout.isTTY && process.env.TERM !== "dumb";
  return isLive ? watchLive(watch, options) : printOnce(watch, options);
}

async function printOnce(watch: Watch, { interval, json }: TopOptions): Promise<number> {
  const first = await watch.look();
  if (first.some(({ problem }) => problem === undefined)) await sleep(interval * 1000);
  const looks = await watch.look();
  const answered = looks.filter(({ rates }) => rates !== undefined);
  if (json) printJson(looks);
  else {
    if (answered.length > 0) printLines(viewLines(answered, terminalWidth()));
    for (const { problem } of looks) if (problem !== undefined) complain(problem);
    if (looks.length === 0) complain(nothingFound());
  }
  return answered.length > 0 ? 0 : STATUS_FAILED;
}

async function watchLive(watch: Watch, { interval }: TopOptions): Promise<number> {
  const ending = new AbortController();
  let looks: Look[] = [];
  const draw = () => screen.draw(frame(looks, interval));
  const screen = new Screen((key) => {
    if (["q", "Q", CTRL_C].includes(key)) ending.abort();
  }, draw);
  try {
    while (!ending.signal.aborted) {
      looks = await watch.look();
      draw();
      await sleep(interval * 1000, undefined, { signal: ending.signal }).catch(() => {});
    }
  } finally {
    screen.close();
  }
  return 0;
}

function frame(looks: readonly Look[], interval: number): string[] {
  const width = terminalWidth();
  const clock = new Date().toTimeString().slice(0, 8);
  const devices = `${looks.length} ${looks.length === 1 ? "device" : "devices"}, every ${interval} s`;
  const title = `vringd top  ${clock}  ${devices}  q ends`;
  if (looks.length === 0) return [paint("bold", title), "", ...wrap(nothingFound(), width)];
  return [paint("bold", title), "", ...viewLines(looks, width), "", ...legendLines(width)];
}
