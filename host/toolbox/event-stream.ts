// Server-sent events of one control socket, for as long as its daemon runs.
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { ControlError, type Peer, reasonFor, sentenceOf, wayTo } from "./control-client.ts";

/** The daemon says every 5 s that it is still there. */
const SILENCE_MS = 20_000;
const LINE_MAX = 1 << 20;

/**
 * The data of each event, until the daemon ends or `signal` does. `timeoutMs`: how long it may take to begin. Throws
 * ControlError, also if the stream breaks off.
 */
export async function* eventsOf(
  { socketPath, timeoutMs }: Peer,
  path: string,
  signal: AbortSignal,
): AsyncGenerator<string> {
  try {
    const { sent, response } = await begin(socketPath, timeoutMs, path, signal);
    response.setTimeout(SILENCE_MS, () => sent.destroy(new Error("nothing came for 20 s")));
    for await (const line of linesOf(response))
      if (line.startsWith("data: ")) yield line.slice("data: ".length);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof ControlError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const reason =
      code === "ECONNRESET" ? "the daemon broke off" : reasonFor(error as NodeJS.ErrnoException, socketPath);
    throw new ControlError(`${socketPath}: ${reason}`);
  }
}

async function begin(
  socketPath: string,
  timeoutMs: number,
  path: string,
  signal: AbortSignal,
): Promise<{ sent: ClientRequest; response: IncomingMessage }> {
  const way = await wayTo(socketPath);
  return new Promise((resolve, reject) => {
    const headers = { accept: "text/event-stream" };
    const sent = request({ ...way, path, headers, signal });
    const timer = setTimeout(
      () => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    sent.on("close", () => clearTimeout(timer));
    sent.on("error", reject);
    sent.on("response", (response) => {
      const isStream = response.headers["content-type"] === "text/event-stream";
      if (isStream) clearTimeout(timer);
      resolve(isStream ? { sent, response } : refused(socketPath, response));
    });
    sent.end();
  });
}

/** Throws ControlError: what a response says that is not what was asked for. */
export async function refused(socketPath: string, response: IncomingMessage): Promise<never> {
  const lines: string[] = [];
  for await (const line of linesOf(response)) lines.push(line);
  throw new ControlError(sentenceOf(socketPath, response.statusCode!, lines.join("\n")));
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = "";
  for await (const part of response.setEncoding("utf8")) {
    const lines = (rest + part).split("\n");
    rest = lines.pop()!;
    if (rest.length > LINE_MAX) throw new Error("a line does not end");
    yield* lines;
  }
  if (rest !== "") yield rest;
}
