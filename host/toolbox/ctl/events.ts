// `vringd ctl SOCKET events`: a line an event, as the daemon's log has it, until the daemon or its user ends it.
import { once } from "node:events";
import type { Event } from "../../observability/events.ts";
import { formatText } from "../../process/log-format.ts";
import type { Peer } from "../control-client.ts";
import { eventsOf } from "../event-stream.ts";
import { printable } from "../terminal.ts";

export async function printEvents(peer: Peer, json: boolean): Promise<void> {
  const ending = new AbortController();
  const stop = () => ending.abort();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);
  for await (const data of eventsOf(peer, "/v1/events", ending.signal)) {
    const line = json ? data : sentenceOf(JSON.parse(data));
    // Whoever reads slowly lets the daemon skip events rather than keep them.
    if (!process.stdout.write(`${line}\n`)) await once(process.stdout, "drain");
  }
}

function sentenceOf(event: Event | { event: "skipped"; count: number }): string {
  if (!("message" in event)) return `${event.count} events were skipped`;
  const { fields, level, time, message } = event;
  return printable(formatText(JSON.stringify({ ...fields, level, time, msg: message })).trimEnd());
}
