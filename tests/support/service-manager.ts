// A service manager that hears what daemons tell it (sd_notify(3)).
import { bind, checked, close, socket } from "../../host/linux/libc.ts";
import { receive } from "../../host/linux/unix-socket.ts";
import { until } from "./until.ts";

const AF_UNIX = 1;
/** SOCK_DGRAM, SOCK_NONBLOCK, SOCK_CLOEXEC. */
const TYPE = 2 | 0o4000 | 0o2000000;

/** A datagram, whose descriptors are the hearer's. */
export interface Heard {
  readonly text: string;
  readonly fds: readonly number[];
}

/** The manager's end: a datagram socket, by path or, with "@", by an abstract name. */
export class Manager {
  readonly fd = checked("socket", socket(AF_UNIX, TYPE, 0));
  private readonly heard: string[] = [];

  constructor(
    name: string,
    private readonly hear: (heard: Heard) => void = closeAll,
  ) {
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(name.replace(/^@/, "\0"))]);
    checked("bind", bind(this.fd, address, address.length));
  }

  async hears(pattern: RegExp): Promise<string> {
    return until(() => this.all().find((text) => pattern.test(text)), `the manager hears ${pattern}`);
  }

  all(): string[] {
    const buffer = Buffer.alloc(4096);
    for (;;) {
      const received = receive(this.fd, buffer);
      if (received === undefined) return this.heard;
      const text = buffer.toString("utf8", 0, received.byteLength);
      this.heard.push(text);
      this.hear({ text, fds: received.fds });
    }
  }

  close(): void {
    close(this.fd);
  }
}

function closeAll({ fds }: Heard): void {
  for (const fd of fds) close(fd);
}
