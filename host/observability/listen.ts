// Where those who look come in: a server that listens at a port of this machine's, or at a Unix socket.
import type { Server } from "node:http";
import { reasonOf, StartError } from "../errors.ts";
import type { Log } from "../process/log.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import { listenPrivately } from "../protocol/private-socket.ts";
import { closeNow } from "./http-server.ts";
import { formatMetricsAddress, type MetricsAddress } from "./metrics-address.ts";

export interface ListenChoice {
  /** To a Unix socket. */
  access?: AccessChoice | undefined;
  /** What named the address, for a sentence. */
  option: string;
  /** A predecessor's descriptor, which listens there already. */
  inherited?: number | undefined;
  log: Log;
}

/** Returns what ends it at once, whoever is connected. Throws StartError. */
export async function listenAt(
  server: Server,
  address: MetricsAddress,
  { access, option, inherited, log }: ListenChoice,
): Promise<() => void> {
  const remove =
    "path" in address
      ? await listenPrivately(server, address.path, access, inherited)
      : await listenAtPort(server, address, option, inherited);
  // Such as no more descriptors for whoever comes: Node refuses that one, and says so.
  server.on("error", (error) => log.warn({ reason: reasonOf(error) }, "a look from outside failed"));
  return () => {
    closeNow(server);
    remove();
  };
}

async function listenAtPort(
  server: Server,
  { host, port }: { host: string; port: number },
  option: string,
  inherited: number | undefined,
): Promise<() => void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      const where = inherited === undefined ? { host, port, exclusive: true } : { fd: inherited };
      server.listen(where, resolve);
    });
  } catch (error) {
    const where = formatMetricsAddress({ host, port });
    throw new StartError(`can't listen on ${where} for ${option}: ${reasonOf(error)}`, error);
  }
  return () => {};
}
