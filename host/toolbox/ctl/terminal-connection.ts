// A connection to a port of a running device: over its control socket, and then bytes and nothing else.
import { request } from "node:http";
import type { Socket } from "node:net";
import { type ListedTerminal, TERMINAL_PROTOCOL } from "../../observability/terminals.ts";
import { askControl, ControlError, type Peer, reasonFor, wayTo } from "../control-client.ts";
import { refused } from "../event-stream.ts";

export async function listPorts(peer: Peer): Promise<ListedTerminal[]> {
  return (await askControl<{ terminals: ListedTerminal[] }>(peer, "GET", "/v1/terminals")).terminals;
}

/** Of a port, by any name that its operator may type. */
export function pathOfPort(name: string): string {
  // What is no UTF-8 would be no path.
  return `/v1/terminals/${encodeURIComponent(Buffer.from(name).toString())}`;
}

/** Throws ControlError. */
export async function connectTo({ socketPath, timeoutMs }: Peer, port: string): Promise<Socket> {
  const way = await wayTo(socketPath);
  return new Promise((resolve, reject) => {
    const headers = { connection: "Upgrade", upgrade: TERMINAL_PROTOCOL };
    const sent = request({ ...way, path: pathOfPort(port), headers });
    const timer = setTimeout(
      () => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    sent.on("close", () => clearTimeout(timer));
    sent.on("error", (error) => reject(new ControlError(`${socketPath}: ${reasonFor(error, socketPath)}`)));
    sent.on("upgrade", (_, connection: Socket, rest: Buffer) => {
      clearTimeout(timer);
      if (rest.length > 0) connection.unshift(rest);
      resolve(connection);
    });
    sent.on("response", (response) => refused(socketPath, response).catch(reject));
    sent.end();
  });
}
