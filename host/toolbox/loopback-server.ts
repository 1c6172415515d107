// Serves the browsers of this machine, and nobody else.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const HOST = "127.0.0.1";

/** Of whatever is served. */
export const HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": "frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

export const PAGE_TYPE = "text/html; charset=utf-8";

const CONNECTIONS_MAX = 32;
const HEADERS_MAX = 8192;
const REQUEST_MS = 5000;

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export interface LoopbackServer {
  readonly server: Server;
  /** Of its port, with "/" for its path. */
  readonly url: string;
}

/** Answers to GET and HEAD for as long as the process lives. Port 0: any that is free. Rejects if the port can't be had. */
export async function listenOnLoopback(port: number, answer: Answer): Promise<LoopbackServer> {
  const options = { maxHeaderSize: HEADERS_MAX, requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS };
  const server = createServer(options, (request, response) => {
    if (isForUs(request, response)) answer(request, response);
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.listen(port, HOST);
  await once(server, "listening");
  return { server, url: `http://${HOST}:${(server.address() as AddressInfo).port}/` };
}

export function refuse(response: ServerResponse, status: number, sentence: string): void {
  response.writeHead(status, { ...HEADERS, "Content-Type": "text/plain; charset=utf-8" });
  response.end(`${sentence}\n`);
}

function isForUs({ method, headers, socket }: IncomingMessage, response: ServerResponse): boolean {
  // Another name that was made to lead here would let its page read this one.
  if (headers.host !== `${HOST}:${socket.localPort}` && headers.host !== `localhost:${socket.localPort}`) {
    refuse(response, 421, "This server answers to 127.0.0.1 and localhost alone.");
    return false;
  }
  if (method === "GET" || method === "HEAD") return true;
  response.setHeader("Allow", "GET, HEAD");
  refuse(response, 405, "There is nothing here but what can be read.");
  return false;
}
