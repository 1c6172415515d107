// `vringd top`

import { setTimeout as sleep } from "node:timers/promises";
import { STATUS_FAILED } from "../../command-line/program.ts";
import { nothingFound } from "../control-sockets.ts";
import type { TopOptions } from "../observe.ts";
import { complain, printJson, printLines, terminalWidth } from "../terminal.ts";
import { viewLines } from "./view.ts";
import { Watch } from "./watch.ts";

export async function top(sockets: readonly string[], options: TopOptions): Promise<number> {
  const watch = new Watch(sockets, options.timeout * 1000);
  const isLive = !options.once && !options.json && process.stdout.isTTY && process.env.TERM !== "dumb";
  if (!isLive) return printOnce(watch, options);
  const { Live } = await import("./live.ts");
  await new Live(watch, options.interval).run();
  return 0;
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
