// Serves one page to the browsers of this machine, and to nobody else.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const HOST = "127.0.0.1";

const HEADERS = {
  "Content-Type": "text/html; charset=utf-8",
  "Cache-Control": "no-store",
  "Content-Security-Policy": "frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

/** Listens for as long as the process lives. Returns the page's address; rejects if the port can't be had. */
export async function servePage(page: Uint8Array, port: number): Promise<string> {
  const server = createServer((request, response) => answer(request, response, page));
  server.listen(port, HOST);
  await once(server, "listening");
  return `http://${HOST}:${(server.address() as AddressInfo).port}/`;
}

function answer(request: IncomingMessage, response: ServerResponse, page: Uint8Array): void {
  const { method, url, headers, socket } = request;
  // Another name that was made to lead here would let its page read this one.
  if (headers.host !== `${HOST}:${socket.localPort}` && headers.host !== `localhost:${socket.localPort}`) {
    refuse(response, 421, "This server answers to 127.0.0.1 and localhost alone.");
  } else if (method !== "GET" && method !== "HEAD") {
    response.setHeader("Allow", "GET, HEAD");
    refuse(response, 405, "There is nothing here but a page to read.");
  } else if (url !== "/") {
    refuse(response, 404, "There is one page here: /");
  } else {
    response.writeHead(200, { ...HEADERS, "Content-Length": page.length });
    response.end(method === "HEAD" ? undefined : page);
  }
}

function refuse(response: ServerResponse, status: number, sentence: string): void {
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" });
  response.end(`${sentence}\n`);
}
