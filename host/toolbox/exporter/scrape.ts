// All devices of this machine as Prometheus reads them, asked at their control sockets each time anew.
import { existsSync } from "node:fs";
import manifest from "../../../package.json" with { type: "json" };
import type { Log } from "../../process/log.ts";
import { ControlError, fetchText, NotHereError } from "../control-client.ts";
import { deviceName, findControlSockets, resolveControlSocket } from "../control-sockets.ts";
import { Exposition, type Labels, labelIn, parseExposition } from "./exposition.ts";

/** Devices that are asked at the same time. */
const ASKED_AT_ONCE = 64;

interface Device {
  socketPath: string;
  /** As `vringd ctl` takes it: the name, or the path of one whose name another has that is found before it. */
  name: string;
}

interface Answer {
  device: Device;
  seconds: number;
  families?: NonNullable<ReturnType<typeof parseExposition>>;
}

export class Scraper {
  private readonly silent = new Set<string>();
  private running: Promise<string> | undefined;

  /** Without sockets, those that are found. `timeoutMs`: how long each may take to answer. */
  constructor(
    private readonly sockets: readonly string[],
    private readonly timeoutMs: number,
    private readonly log: Log,
  ) {}

  /** Those who ask while it goes on get the same answer. */
  scrape(): Promise<string> {
    this.running ??= this.ask().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async ask(): Promise<string> {
    const answers = await inTurns(this.devices(), ASKED_AT_ONCE, (device) => this.look(device));
    return textOf(answers.filter((answer) => answer !== undefined));
  }

  private devices(): Device[] {
    const named = this.sockets.map((each) => resolveControlSocket(each));
    const paths = [...new Set(named.length > 0 ? named : findControlSockets())];
    const names = paths.map(deviceName);
    return paths.map((socketPath, at) => {
      return { socketPath, name: names.indexOf(names[at]!) === at ? names[at]! : socketPath };
    });
  }

  /** Undefined: it has ended meanwhile, and taken its socket along; or it is a process whose devices are found, too. */
  private async look(device: Device): Promise<Answer | undefined> {
    const { socketPath } = device;
    const startedMs = performance.now();
    try {
      const text = await fetchText({ socketPath, timeoutMs: this.timeoutMs }, "/v1/metrics");
      const families = parseExposition(text);
      if (families === undefined) throw new ControlError(`${socketPath}: its metrics can't be read`);
      if (this.silent.delete(socketPath)) this.log.info({ device: device.name }, "a device answers again");
      return { device, seconds: secondsSince(startedMs), families };
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      if (this.sockets.length === 0 && (error instanceof NotHereError || !existsSync(socketPath))) {
        this.silent.delete(socketPath);
        return undefined;
      }
      this.complainOnce(device, error.message);
      return { device, seconds: secondsSince(startedMs) };
    }
  }

  private complainOnce({ socketPath, name }: Device, reason: string): void {
    if (this.silent.has(socketPath)) return;
    this.silent.add(socketPath);
    this.log.warn({ device: name, reason }, "a device does not answer");
  }
}

function textOf(answers: readonly Answer[]): string {
  const all = new Exposition();
  const each = (value: (answer: Answer) => number) =>
    answers.map((answer): [Labels, number] => [{ device: answer.device.name }, value(answer)]);
  all.gauge("vringd_exporter_info", "The exporter's release; always 1.", [
    [{ version: manifest.version }, 1],
  ]);
  all.gauge(
    "vringd_up",
    "Whether the device answered.",
    each(({ families }) => Number(families !== undefined)),
  );
  all.gauge(
    "vringd_answer_seconds",
    "How long the device took to answer, or was waited for.",
    each(({ seconds }) => seconds),
  );
  for (const { device, families } of answers) {
    if (families === undefined) continue;
    const type = labelIn(families, /^vringd_\w+_info$/, "type");
    all.merge(families, { device: device.name, ...(type !== undefined && { type }) });
  }
  return all.toString();
}

function secondsSince(startedMs: number): number {
  return (performance.now() - startedMs) / 1000;
}

/** The results in the order of the items, of which so many are worked on at once. */
async function inTurns<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const waiting = items.entries();
  const worker = async () => {
    for (const [at, item] of waiting) results[at] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
