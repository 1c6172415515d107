// The front-end's end of the channel on which a back-end speaks first.
import { close } from "../../host/linux/libc.ts";
import { receive, send, unixPair } from "../../host/linux/unix-socket.ts";
import { decodeHeader } from "../../host/protocol/codec.ts";
import { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG } from "../../host/protocol/messages.ts";

const HEADER_BYTES = 12;
const JUNK = Buffer.alloc(4096);

export class ChannelEnd {
  /** What the back-end gets. */
  readonly theirs: number;
  private readonly ours: number;
  private isOpen = true;
  private junk = 0;

  constructor() {
    [this.theirs, this.ours] = unixPair();
  }

  /** Until it takes no byte more. */
  fill(): void {
    for (let sent = 1; sent > 0; this.junk += sent) sent = send(this.theirs, JUNK, []);
  }

  /** Takes what fill() has put there. */
  drain(): void {
    for (const bytes = Buffer.alloc(65536); this.junk > 0; ) {
      this.junk -= receive(this.ours, bytes.subarray(0, Math.min(bytes.length, this.junk)))!.byteLength;
    }
  }

  /** How many times the config space is said to have changed since this was asked last. */
  changes(): number {
    for (let count = 0; ; count++) {
      const header = Buffer.alloc(HEADER_BYTES);
      const received = receive(this.ours, header);
      if (received === undefined) return count;
      const { request, flags } = decodeHeader(header);
      // Version 1, and no reply asked for.
      if (request !== VHOST_USER_BACKEND_CONFIG_CHANGE_MSG || flags !== 1)
        throw new Error(`message ${request}, flags ${flags}`);
    }
  }

  /** The back-end's descriptor is one of its own by then. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    close(this.theirs);
    close(this.ours);
  }
}
