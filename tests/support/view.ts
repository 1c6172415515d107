// `vringd ctl NAME view` of a daemon under test, and whoever asks it for what a browser asks it for.
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import type { ScreenHead } from "../../host/observability/watched-screens.ts";
import { type Run, startToolbox } from "./toolbox.ts";
import { until } from "./until.ts";
import type { Vringd } from "./vringd.ts";

/** On a machine that has much else to do. */
const ANSWER_MS = 60_000;
const LIFE_MS = 900_000;

export interface Reply {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

export interface SeenChange {
  head: ScreenHead;
  pixels: Buffer;
}

export function startView(daemon: Vringd, ...args: readonly string[]): Promise<View> {
  return View.start(["ctl", join(daemon.directory, "control"), "view", ...args, "--json"]);
}

export class View {
  private constructor(
    readonly run: Run,
    readonly url: URL,
    readonly screen: string,
  ) {}

  static async start(args: readonly string[]): Promise<View> {
    const run = startToolbox(args, { timeoutMs: LIFE_MS });
    const output = run.child.stdout!;
    const [text] = await once(output, "data", { signal: AbortSignal.timeout(ANSWER_MS) });
    const { url, screen } = JSON.parse(text) as { url: string; screen: string };
    return new View(run, new URL(url), screen);
  }

  /** A request as it comes from a browser, or from somebody else. `path`: below the page, or of the whole server. */
  send(path: string, { host = this.url.host, method = "GET" } = {}): ClientRequest {
    const { hostname, port } = this.url;
    const whole = path.startsWith("/") ? path : this.url.pathname + path;
    return request({ hostname, port, path: whole, method, headers: { host }, agent: false }).end();
  }

  async ask(path: string, options?: { host?: string; method?: string }): Promise<Reply> {
    const sent = this.send(path, options);
    const [response] = (await once(sent, "response", {
      signal: AbortSignal.timeout(ANSWER_MS),
    })) as [IncomingMessage];
    const parts: Buffer[] = [];
    for await (const part of response) parts.push(part);
    return { status: response.statusCode!, headers: response.headers, body: Buffer.concat(parts) };
  }

  /** What is other than in this version, once something is. */
  async changeSince(version: number): Promise<SeenChange> {
    const { status, body } = await this.ask(`changes?since=${version}`);
    if (status !== 200) throw new Error(`${status}: ${body}`);
    return readChange(body);
  }

  /** The first change for which this holds. */
  async changeUntil(isWanted: (head: ScreenHead) => boolean): Promise<SeenChange> {
    let version = 0;
    return until(
      async () => {
        const change = await this.changeSince(version);
        ({ version } = change.head);
        return isWanted(change.head) && change;
      },
      "the screen changes",
      ANSWER_MS,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.run.child.kill("SIGKILL");
    await this.run.done;
  }
}

export function readChange(body: Buffer): SeenChange {
  const end = body.indexOf("\n");
  return { head: JSON.parse(body.subarray(0, end).toString()), pixels: body.subarray(end + 1) };
}
