// What a browser gets of a screen: a page, and the screen's changes as the daemon gives them, to whoever knows the address. Nothing is
// kept here: a browser that is slow lets the daemon wait, and finds what is new then.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ControlError, type Peer } from "../../control-client.ts";
import { HEADERS, type LoopbackServer, listenOnLoopback, PAGE_TYPE, refuse } from "../../loopback-server.ts";
import { askForChange, DaemonLost } from "./changes.ts";

const TOKEN_BYTES = 32;
/** To one browser. */
const FRAMES_A_SECOND = 30;
/** For browsers to hear that the daemon has ended, and for us to hear it: by its events, or by an answer that breaks off. */
const FAREWELL_MS = 2000;
const NEWS_MS = 1000;

export class ViewServer {
  private readonly token = randomBytes(TOKEN_BYTES).toString("base64url");
  /** When a connection was given a frame last, in milliseconds of performance.now(). */
  private readonly frames = new WeakMap<Socket, number>();
  private readonly ended = new AbortController();
  private loopback: LoopbackServer | undefined;

  /** `page`: with all that it needs. */
  constructor(
    private readonly peer: Peer,
    private readonly screen: string,
    private readonly page: Uint8Array,
  ) {}

  /** Returns the page's address. Rejects if the port can't be had. */
  async open(port: number): Promise<string> {
    this.loopback = await listenOnLoopback(port, (request, response) => this.answer(request, response));
    return `${this.loopback.url}${this.token}/`;
  }

  /** The daemon has ended: browsers are told so, and then the server ends. */
  async bidFarewell(): Promise<void> {
    this.ended.abort();
    await sleep(FAREWELL_MS);
    this.close();
  }

  close(): void {
    this.loopback?.server.close();
    this.loopback?.server.closeAllConnections();
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    // No URL object: it throws for some of what may come.
    const [path, query] = request.url!.split("?", 2);
    const [, token = "", name] = path!.split("/", 3);
    const since = new URLSearchParams(query).get("since") ?? "0";
    if (!this.isToken(token)) refuse(response, 403, "Only the whole address leads here, as it was printed.");
    else if (path === `/${token}/`) this.givePage(request, response);
    else if (name === "changes") this.giveChange(request, response, since);
    else refuse(response, 404, "There is one page here.");
  }

  /** In the same time for all that are wrong. */
  private isToken(text: string): boolean {
    const [given, right] = [text, this.token].map((each) => createHash("sha256").update(each).digest());
    return timingSafeEqual(given!, right!);
  }

  private givePage({ method }: IncomingMessage, response: ServerResponse): void {
    response.writeHead(200, { ...HEADERS, "Content-Type": PAGE_TYPE, "Content-Length": this.page.length });
    response.end(method === "HEAD" ? undefined : this.page);
  }

  private async giveChange(
    { socket }: IncomingMessage,
    response: ServerResponse,
    since: string,
  ): Promise<void> {
    const left = new AbortController();
    response.once("close", () => left.abort());
    try {
      await this.keepPace(socket, left.signal);
      const change = await askForChange(this.peer, this.screen, since, left.signal);
      this.frames.set(socket, performance.now());
      response.writeHead(200, {
        ...HEADERS,
        "Content-Type": "application/octet-stream",
        "Content-Length": change.headers["content-length"],
      });
      await pipeline(change, response);
    } catch (error) {
      // One that has left, or has a part already.
      if (response.destroyed || response.headersSent) response.destroy();
      else await this.explain(error, response);
    }
  }

  private async keepPace(socket: Socket, left: AbortSignal): Promise<void> {
    const last = this.frames.get(socket) ?? 0;
    const wait = last + 1000 / FRAMES_A_SECOND - performance.now();
    if (wait > 0) await sleep(wait, undefined, { signal: left });
  }

  private async explain(error: unknown, response: ServerResponse): Promise<void> {
    if (!(error instanceof ControlError)) throw error;
    const { signal } = this.ended;
    // Its answers may break off before its events do.
    if (error instanceof DaemonLost && !signal.aborted)
      await sleep(NEWS_MS, undefined, { signal }).catch(() => {});
    if (signal.aborted) refuse(response, 410, "The daemon has ended.");
    else refuse(response, 502, error.message);
  }
}
