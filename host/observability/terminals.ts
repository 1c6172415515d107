// Terminals of operators at a device, such as at the ports of a console: which there are, and who is attached. Described in
// schema/control.openapi.json.
import type { Device, Terminal } from "../devices/device.ts";
import type { WindowSize } from "../linux/pty.ts";
import type { Log } from "../process/log.ts";
import { RequestError, type Upgrade } from "./http-server.ts";

export const TERMINAL_PROTOCOL = "vringd-terminal";

/** Each keeps a connection, and the server has few: others must be able to ask, too. */
const ATTACHED_MAX = 4;
const CHARACTERS_MAX = 65535;

export interface ListedTerminal {
  name: string;
  isAttached: boolean;
}

export class Terminals {
  constructor(
    private readonly device: Pick<Device, "terminals">,
    private readonly log: Pick<Log, "info">,
  ) {}

  list(): { terminals: ListedTerminal[] } {
    return { terminals: [...this.all].map(([name, { isAttached }]) => ({ name, isAttached })) };
  }

  /** A connection of HTTP becomes a terminal: bytes both ways, and nothing else. */
  get upgrade(): Upgrade {
    return {
      protocol: TERMINAL_PROTOCOL,
      accept: (port) => {
        const [name, terminal] = this.freeAt(port);
        return (connection) => {
          this.log.info({ port: name }, "terminal attached");
          connection.once("close", () => this.log.info({ port: name }, "terminal detached"));
          terminal.attach(connection);
        };
      },
    };
  }

  /** For a request that does not ask for the protocol. */
  refuse(port: string): never {
    this.freeAt(port);
    throw new RequestError(426, `only a terminal comes here, by "Upgrade: ${TERMINAL_PROTOCOL}"`, {
      upgrade: TERMINAL_PROTOCOL,
    });
  }

  detach(port: string): ListedTerminal {
    const [name, terminal] = this.at(port);
    terminal.detach();
    return { name, isAttached: false };
  }

  /** `request`: what the client has sent, which may be anything. */
  resize(port: string, request: unknown): WindowSize {
    const [, terminal] = this.at(port);
    const { cols, rows, ...others } = (request ?? {}) as Record<string, unknown>;
    if (!isCount(cols) || !isCount(rows) || Object.keys(others).length > 0) {
      const range = `from 1 to ${CHARACTERS_MAX}`;
      throw new RequestError(400, `the body must be {"cols": a number ${range}, "rows": another}`);
    }
    const size = { cols, rows };
    terminal.resize(size);
    return size;
  }

  private get all(): ReadonlyMap<string, Terminal> {
    return this.device.terminals ?? new Map();
  }

  /** `port`: as it stands in a path. */
  private at(port: string): [name: string, terminal: Terminal] {
    const name = decoded(port);
    const terminal = this.all.get(name);
    if (terminal) return [name, terminal];
    const names = [...this.all.keys()].join(", ");
    const has = names === "" ? "this device has none" : `the ports are ${names}`;
    throw new RequestError(404, `there is no port ${JSON.stringify(name)}: ${has}`);
  }

  private freeAt(port: string): [name: string, terminal: Terminal] {
    const found = this.at(port);
    const [name, { isAttached }] = found;
    if (isAttached) throw new RequestError(409, `a terminal is attached to ${name} already: detach it first`);
    const count = this.list().terminals.filter((each) => each.isAttached).length;
    if (count >= ATTACHED_MAX)
      throw new RequestError(503, `${count} terminals are attached already: detach one first`);
    return found;
  }
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= CHARACTERS_MAX;
}

function decoded(port: string): string {
  try {
    return decodeURIComponent(port);
  } catch {
    // No UTF-8 in percent signs: then it is a name that no port has.
    return port;
  }
}
