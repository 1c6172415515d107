// Serves one page to the browsers of this machine.
import { HEADERS, listenOnLoopback, PAGE_TYPE, refuse } from "../loopback-server.ts";

/** Listens for as long as the process lives. Returns the page's address; rejects if the port can't be had. */
export async function servePage(page: Uint8Array, port: number): Promise<string> {
  const { url } = await listenOnLoopback(port, (request, response) => {
    if (request.url !== "/") {
      refuse(response, 404, "There is one page here: /");
      return;
    }
    response.writeHead(200, { ...HEADERS, "Content-Type": PAGE_TYPE, "Content-Length": page.length });
    response.end(request.method === "HEAD" ? undefined : page);
  });
  return url;
}
