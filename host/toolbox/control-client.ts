// A question to one control socket, with a bound on how long its answer may take.
import { type RequestOptions, request } from "node:http";
import { Socket } from "node:net";
import { reasonOf } from "../errors.ts";
import { isNoSocket } from "./control-sockets.ts";

const ANSWER_MAX = 16 << 20;
/** Of a picture of the largest screen, which compresses badly. */
const PICTURE_MAX = 1 << 30;

/** Whom to ask, and how long all of the exchange may take. */
export interface Peer {
  socketPath: string;
  timeoutMs: number;
}

/** No answer, or one that says no. The message is one sentence. */
export class ControlError extends Error {}

/** There is nothing of that kind, such as a device at the socket of a process whose devices have sockets of their own. */
export class NotHereError extends ControlError {}

/** What the daemon at `socketPath` answers, read as JSON. Throws ControlError. */
export async function askControl<T>(
  { socketPath, timeoutMs }: Peer,
  method: string,
  path: string,
  body?: object,
): Promise<T> {
  const text = body === undefined ? "" : JSON.stringify(body);
  const { status, bytes } = await exchange({ socketPath, timeoutMs }, method, path, text, ANSWER_MAX);
  const answer = bytes.toString();
  const value = parse(answer);
  if (value === undefined || status >= 400) throw refusal(socketPath, status, answer);
  return value as T;
}

/** What it answers that is no JSON, such as a picture. Throws ControlError. */
export async function fetchControl(peer: Peer, path: string, most = PICTURE_MAX): Promise<Buffer> {
  const { status, bytes } = await exchange(peer, "GET", path, "", most);
  if (status !== 200) throw refusal(peer.socketPath, status, bytes.toString());
  return bytes;
}

/** The same of text. Throws ControlError. */
export async function fetchText(peer: Peer, path: string): Promise<string> {
  return (await fetchControl(peer, path, ANSWER_MAX)).toString();
}

function refusal(socketPath: string, status: number, answer: string): ControlError {
  const sentence = sentenceOf(socketPath, status, answer);
  return status === 404 ? new NotHereError(sentence) : new ControlError(sentence);
}

/** What an answer says that is none. */
export function sentenceOf(socketPath: string, status: number, answer: string): string {
  const value = parse(answer) as { error?: string } | undefined;
  if (value === undefined || status < 400) return `${socketPath} is no control socket of ours`;
  return `${socketPath}: ${value.error ?? status}`;
}

async function exchange(
  { socketPath, timeoutMs }: Peer,
  method: string,
  path: string,
  body: string,
  most: number,
): Promise<{ status: number; bytes: Buffer }> {
  const way = await wayTo(socketPath);
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => reject(new ControlError(`${socketPath}: ${reason}`));
    const headers = { "content-length": Buffer.byteLength(body) };
    const sent = request({ method, path, headers, ...way }, (response) => {
      const parts: Buffer[] = [];
      let byteLength = 0;
      response.on("data", (part: Buffer) => {
        parts.push(part);
        byteLength += part.length;
        if (byteLength > most) sent.destroy(new Error("the answer does not end"));
      });
      response.on("end", () => resolve({ status: response.statusCode!, bytes: Buffer.concat(parts) }));
      response.on("error", (error) => fail(reasonOf(error)));
    });
    // Of the whole exchange: a peer that sends a byte now and then is never idle.
    const timer = setTimeout(
      () => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    sent.on("close", () => clearTimeout(timer));
    sent.on("error", (error) => fail(reasonFor(error, socketPath)));
    sent.end(body);
  });
}

/** What a request needs to get there. Throws ControlError. */
export async function wayTo(socketPath: string): Promise<RequestOptions> {
  return socketPath.startsWith("@") ? wayToName(socketPath) : { socketPath, agent: false };
}

/** Node 20 itself fills abstract names up with zeroes, which makes them other names. */
async function wayToName(name: string): Promise<RequestOptions> {
  const { connectUnix } = await import("../linux/unix-socket.ts");
  try {
    const socket = new Socket({ fd: connectUnix(name) });
    return { createConnection: () => socket };
  } catch (error) {
    throw new ControlError(`${name}: ${reasonFor(error as NodeJS.ErrnoException, name)}`);
  }
}

export function reasonFor(error: NodeJS.ErrnoException, socketPath: string): string {
  if (error.code === "ENOENT") return "there is no such socket";
  if (error.code === "ECONNREFUSED" && isNoSocket(socketPath)) return "this is no socket";
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
