// `vringd ctl NAME view`: a guest's screen for this machine's browsers, until its user ends it, or the daemon ends.
import { reasonOf } from "../../../errors.ts";
import type { ListedScreen } from "../../../observability/screens.ts";
import { readOwnFile } from "../../../process/own-files.ts";
import { askControl, ControlError, type Peer } from "../../control-client.ts";
import { deviceName } from "../../control-sockets.ts";
import { eventsOf } from "../../event-stream.ts";
import { printJson, printLines } from "../../terminal.ts";
import { askForChange } from "./changes.ts";
import { ViewServer } from "./server.ts";

export interface ViewOptions {
  /** 0: any that is free. */
  port: number;
  isJson: boolean;
}

/** `name`: of the screen; the first that shows something if left out. Throws ControlError. */
export async function view(
  peer: Peer,
  name: string | undefined,
  { port, isJson }: ViewOptions,
): Promise<void> {
  const screen = name ?? (await firstScreen(peer));
  await look(peer, screen);
  const ending = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => ending.abort());
  const server = new ViewServer(peer, screen, await pageFor(`${deviceName(peer.socketPath)} ${screen}`));
  const url = await open(server, port);
  if (isJson) printJson({ url, screen });
  else printLines([`${url} shows screen ${screen} to this machine's browsers; Ctrl-C ends it`]);
  await untilEndOf(peer, ending.signal);
  if (ending.signal.aborted) {
    server.close();
    return;
  }
  await server.bidFarewell();
  throw new ControlError(`${peer.socketPath}: the daemon has ended`);
}

async function firstScreen(peer: Peer): Promise<string> {
  const { screens } = await askControl<{ screens: ListedScreen[] }>(peer, "GET", "/v1/screens");
  return screens[0]?.name ?? "0";
}

/** Whether it can be watched. Throws ControlError. */
async function look(peer: Peer, screen: string): Promise<void> {
  const enough = new AbortController();
  const answer = await askForChange(peer, screen, "0", enough.signal);
  answer.on("error", () => {});
  enough.abort();
}

async function pageFor(title: string): Promise<Uint8Array> {
  const page = Buffer.from(await readOwnFile("view.html")).toString();
  const escaped = title.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  return Buffer.from(page.replaceAll("TITLE", () => escaped));
}

async function open(server: ViewServer, port: number): Promise<string> {
  try {
    return await server.open(port);
  } catch (error) {
    throw new ControlError(`can't listen on port ${port} of 127.0.0.1: ${reasonOf(error)}`);
  }
}

async function untilEndOf(peer: Peer, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of eventsOf(peer, "/v1/events", signal));
  } catch (error) {
    // It has ended in another way, or hangs.
    if (!(error instanceof ControlError)) throw error;
  }
}
