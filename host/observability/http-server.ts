// A small HTTP server for few clients, which may be slow, wrong or hostile: all they can take is bounded.
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Log } from "../process/log.ts";

export interface Answer {
  status: number;
  contentType: string;
  body: string | Uint8Array;
  /** Done once the client has its answer, or has left. */
  afterwards?: () => void;
}

/** An answer that goes on for as long as its client listens. */
export interface Stream {
  begin: (response: ServerResponse) => void;
}

/**
 * `last`: what the path has where the route's path ends in a name in braces. `query`: what the address has behind its path. `client`: the
 * connection that the request has come by.
 */
export type Handler = (
  body: string,
  headers: IncomingHttpHeaders,
  last: string,
  query: URLSearchParams,
  client: Socket,
) => Answer | Stream | Promise<Answer>;

/** By path, then by method. */
export type Routes = Record<string, Record<string, Handler>>;

/** A protocol that a connection changes to at a path (RFC 9110, 7.8). */
export interface Upgrade {
  readonly protocol: string;
  /** Says who takes the connection over, which has no time limit then. Throws RequestError. */
  accept(last: string): (connection: Duplex) => void;
}

/** By path. */
export type Upgrades = Record<string, Upgrade>;

const TAKEN_OVER = Symbol("taken over");
type TakenOver = typeof TAKEN_OVER;

/** The request is wrong; the message is a sentence for its sender. */
export class RequestError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(message);
  }
}

const BODY_MAX = 4096;
const HEADERS_MAX = 8192;
const CONNECTIONS_MAX = 24;
/** For the head of a request, for all of it, and for a connection on which nothing happens. */
const HEAD_MS = 2000;
const REQUEST_MS = 3000;
/** Longer than a request may take, whose client would not hear why it was given up. */
const IDLE_MS = 5000;
const CHECK_MS = 500;

export function createBoundedServer(routes: Routes, log: Log, upgrades: Upgrades = {}): Server {
  const options = {
    maxHeaderSize: HEADERS_MAX,
    headersTimeout: HEAD_MS,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: IDLE_MS,
    connectionsCheckingInterval: CHECK_MS,
  };
  const respond = async (response: ServerResponse, answerTo: () => Promise<Answer | Stream | TakenOver>) => {
    try {
      const answer = await answerTo();
      if (answer === TAKEN_OVER) return;
      if ("begin" in answer) beginStream(response, answer);
      else send(response, answer);
    } catch (error) {
      // One that broke off in the middle of its request has nobody to answer to.
      if (response.socket?.destroyed ?? true) return;
      if (!(error instanceof RequestError)) log.error({ err: error }, "a look from outside failed");
      refuse(response, error);
    }
  };
  const server = createServer(options, (request, response) =>
    respond(response, () => handle(routes, request)),
  );
  server.maxConnections = CONNECTIONS_MAX;
  // A client that doesn't take its answer is given up, too.
  server.timeout = IDLE_MS;
  server.on("clientError", refuseRaw);
  server.on("upgrade", (request, connection: Socket, rest: Buffer) => {
    const response = responseOn(connection, request);
    respond(response, async () => {
      if (changeProtocol(upgrades, request, response, rest)) return TAKEN_OVER;
      // Whoever asks for a protocol that is not here may be answered in this one.
      return handle(routes, request);
    });
  });
  return server;
}

/** Hands the connection over, if the request is for that. Throws RequestError. */
function changeProtocol(
  upgrades: Upgrades,
  request: IncomingMessage,
  response: ServerResponse,
  rest: Buffer,
): boolean {
  const [upgrade, last] = routeOf(upgrades, request);
  if (upgrade === undefined || request.method !== "GET") return false;
  if (request.headers.upgrade !== upgrade.protocol) return false;
  const take = upgrade.accept(last);
  const connection = response.socket!;
  response.detachSocket(connection);
  connection.setTimeout(0);
  const head = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", `Upgrade: ${upgrade.protocol}`];
  connection.write(`${head.join("\r\n")}\r\n\r\n`);
  if (rest.length > 0) connection.unshift(rest);
  take(connection);
  return true;
}

/** Node makes none for a request that asks for another protocol, and listens to that connection no more. */
function responseOn(connection: Socket, request: IncomingMessage): ServerResponse {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(connection);
  response.on("finish", () => connection.end());
  connection.on("error", () => connection.destroy());
  return response;
}

/** What stands at the request's path, or at the same path with a name in braces for its last part. */
function routeOf<T>(
  table: Record<string, T>,
  { url }: IncomingMessage,
): [found: T | undefined, last: string] {
  const path = pathOf(url!);
  if (Object.hasOwn(table, path)) return [table[path], ""];
  const end = path.lastIndexOf("/") + 1;
  const template = Object.keys(table).find((each) => each.startsWith(`${path.slice(0, end)}{`));
  return [table[template ?? ""], path.slice(end)];
}

/** Ends it at once: nobody who hangs may hold up the end of the process. */
export function closeNow(server: Server): void {
  server.close();
  server.closeAllConnections();
}

export function json(value: unknown, status = 200): Answer {
  return { status, contentType: "application/json", body: `${JSON.stringify(value)}\n` };
}

async function handle(routes: Routes, request: IncomingMessage): Promise<Answer | Stream> {
  const path = pathOf(request.url!);
  const [methods, last] = routeOf(routes, request);
  if (methods === undefined)
    throw new RequestError(404, `there is no ${path} here, but ${Object.keys(routes).join(", ")}`);
  const method = request.method!;
  // What GET answers, without its body (RFC 9110, 9.3.2), which Node leaves out by itself.
  const handler = methods[method] ?? (method === "HEAD" ? methods.GET : undefined);
  if (handler === undefined) {
    const allow = Object.keys(methods)
      .flatMap((each) => (each === "GET" ? ["GET", "HEAD"] : [each]))
      .join(", ");
    throw new RequestError(405, `${path} takes ${allow}, not ${request.method}`, { allow });
  }
  const body = await readBody(request);
  // From here on the client waits for us, and not we for it.
  request.socket.setTimeout(0);
  try {
    return await handler(body, request.headers, last, queryOf(request.url!), request.socket);
  } finally {
    request.socket.setTimeout(IDLE_MS);
  }
}

function pathOf(url: string): string {
  return url.replace(/\?.*/, "");
}

function queryOf(url: string): URLSearchParams {
  return new URLSearchParams(url.slice(pathOf(url).length));
}

/** Not by iterating: that would take the connection away from those whose body is too long, before they are told. */
function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let byteLength = 0;
    request.on("data", (chunk: Buffer) => {
      byteLength += chunk.length;
      chunks.push(chunk);
      if (byteLength <= BODY_MAX) return;
      request.pause().removeAllListeners("data");
      reject(new RequestError(413, `the body has more than ${BODY_MAX} bytes`, { connection: "close" }));
    });
    request.on("end", () => resolve(Buffer.concat(chunks).toString()));
    request.on("error", reject);
    request.on("close", () => reject(new Error("the client has left")));
  });
}

function send(
  response: ServerResponse,
  { status, contentType, body, afterwards }: Answer,
  headers: Record<string, string> = {},
): void {
  if (afterwards) response.once("close", afterwards);
  const byteLength = Buffer.byteLength(body);
  response.writeHead(status, { "content-type": contentType, "content-length": byteLength, ...headers });
  response.end(body);
}

/** Whoever begins it sees to clients that take nothing. */
function beginStream(response: ServerResponse, { begin }: Stream): void {
  response.socket?.setTimeout(0);
  begin(response);
}

function refuse(response: ServerResponse, error: unknown): void {
  if (error instanceof RequestError)
    send(response, json({ error: error.message }, error.status), error.headers);
  else send(response, json({ error: "this should not have happened; the log says more" }, 500));
}

/** What never became a request. */
function refuseRaw(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (socket.writable) {
    const [status, reason] = reasonFor(error.code);
    const body = `${JSON.stringify({ error: reason })}\n`;
    const head = `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nConnection: close\r\n`;
    socket.write(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  }
  socket.destroy();
}

function reasonFor(code: string | undefined): [status: string, reason: string] {
  switch (code) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return ["408 Request Timeout", "the request took too long"];
    case "HPE_HEADER_OVERFLOW":
      return ["431 Request Header Fields Too Large", `the headers have more than ${HEADERS_MAX} bytes`];
    default:
      return ["400 Bad Request", "this is not HTTP"];
  }
}
