// What changes on a screen of a running daemon, as its control socket gives it.
import { type IncomingMessage, request } from "node:http";
import { ControlError, type Peer, reasonFor, wayTo } from "../../control-client.ts";
import { refused } from "../../event-stream.ts";

/** Longer than the daemon waits for a change. */
const SILENCE_MS = 30_000;

/** The daemon did not answer at all. */
export class DaemonLost extends ControlError {}

/** The answer, from its beginning: it comes when the version is another one than `since`. Throws ControlError. */
export async function askForChange(
  { socketPath }: Peer,
  screen: string,
  since: string,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const way = await wayTo(socketPath);
  const path = `/v1/screens/${encodeURIComponent(screen)}?since=${encodeURIComponent(since)}`;
  return new Promise((resolve, reject) => {
    const sent = request({ ...way, path, signal, timeout: SILENCE_MS });
    sent.on("timeout", () => sent.destroy(new Error("no answer within 30 s")));
    sent.on("error", (error) => reject(new DaemonLost(`${socketPath}: ${reasonFor(error, socketPath)}`)));
    sent.on("response", (response) => {
      if (response.statusCode === 200) resolve(response);
      else refused(socketPath, response).catch(reject);
    });
    sent.end();
  });
}
