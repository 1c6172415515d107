// The servers of a process where others look, as long as they listen.
import type { Server } from "node:http";
import { Descriptor } from "../linux/descriptor.ts";
import { choice } from "../process/choices.ts";
import type { Log } from "../process/log.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import { listenAt } from "./listen.ts";
import { formatMetricsAddress, type MetricsAddress } from "./metrics-address.ts";

/** By address. */
export type InheritedSockets = Readonly<Record<string, Descriptor>>;

interface Listener {
  readonly server: Server;
  readonly address: MetricsAddress;
  readonly close: () => void;
}

export class Listeners {
  private readonly all = new Set<Listener>();
  private readonly inherited: Map<string, Descriptor>;

  /** `inherited`: of a predecessor. */
  constructor(
    inherited: InheritedSockets,
    private readonly log: Log,
  ) {
    this.inherited = new Map(Object.entries(inherited));
  }

  /** Returns what ends it at once, whoever is connected. Throws StartError. */
  async open(server: Server, address: MetricsAddress, access?: AccessChoice): Promise<() => void> {
    const name = formatMetricsAddress(address);
    const inherited = this.inherited.get(name)?.fd;
    // It is the server's: whoever listens there later has a socket of its own.
    this.inherited.delete(name);
    const option = choice("metrics");
    const close = await listenAt(server, address, { access, option, inherited, log: this.log });
    const listener = { server, address, close };
    this.all.add(listener);
    return () => {
      this.all.delete(listener);
      close();
    };
  }

  /** They stay the servers' own. */
  sockets(): Record<string, Descriptor> {
    return Object.fromEntries(
      [...this.all].map(({ server, address }) => [
        formatMetricsAddress(address),
        new Descriptor(fdOf(server)),
      ]),
    );
  }

  /** Others listen there from here on. Who is connected stays so. */
  leave(): void {
    for (const { server } of this.all) server.close();
    this.all.clear();
  }

  close(): void {
    for (const { close } of this.all) close();
    this.all.clear();
  }
}

function fdOf(server: Server): number {
  return (server as unknown as { _handle: { fd: number } })._handle.fd;
}
