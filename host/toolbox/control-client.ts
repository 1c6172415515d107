// A question to one control socket, with a bound on how long its answer may take.
import { request } from "node:http";
import { reasonOf } from "../errors.ts";

const TIMEOUT_MS = 2000;
const ANSWER_MAX = 16 << 20;

/** No answer, or one that says no. The message is one sentence. */
export class ControlError extends Error {}

/** What the daemon at `socketPath` answers, read as JSON. Throws ControlError. */
export async function askControl<T>(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<T> {
  const text = body === undefined ? "" : JSON.stringify(body);
  const { status, answer } = await exchange(socketPath, method, path, text);
  const value = parse(answer);
  if (value === undefined) throw new ControlError(`${socketPath} is no control socket of vringd-blk`);
  if (status >= 400)
    throw new ControlError(`${socketPath}: ${(value as { error?: string }).error ?? status}`);
  return value as T;
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: string,
): Promise<{ status: number; answer: string }> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => reject(new ControlError(`${socketPath}: ${reason}`));
    const headers = { "content-length": Buffer.byteLength(body) };
    const sent = request({ socketPath, method, path, headers, agent: false }, (response) => {
      let answer = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        answer += part;
        if (answer.length > ANSWER_MAX) sent.destroy(new Error("the answer does not end"));
      });
      response.on("end", () => resolve({ status: response.statusCode!, answer }));
      response.on("error", (error) => fail(reasonOf(error)));
    });
    // Of the whole exchange: a peer that sends a byte now and then is never idle.
    const timer = setTimeout(
      () => sent.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)),
      TIMEOUT_MS,
    );
    sent.on("close", () => clearTimeout(timer));
    sent.on("error", (error) => fail(reasonFor(error)));
    sent.end(body);
  });
}

function reasonFor(error: NodeJS.ErrnoException): string {
  if (error.code === "ENOENT") return "there is no such socket";
  if (error.code === "ECONNREFUSED") return "nobody listens there any more";
  if (error.code === "ECONNRESET" || error.code === "EPIPE") return "it hung up without an answer";
  if (error.code?.startsWith("HPE_")) return "it does not speak HTTP, so it is no control socket";
  return reasonOf(error);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
