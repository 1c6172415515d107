// Where a guest's stream of bytes ends on this machine: at most one peer at a time, who comes and goes. It knows nothing of rings.
import type { Readable, Writable } from "node:stream";
import type { WindowSize } from "../linux/pty.ts";

/** Who is there. `output` closes when they go. */
export interface Peer {
  readonly input?: Readable;
  readonly output: Writable;
}

const NOTHING = Buffer.alloc(0);

export class HostSide {
  /** That of the peer's terminal, if it has told. */
  size: WindowSize | undefined;
  /** Called when a peer has come or gone; has sent something; has told its window's size. */
  onPeer = (): void => {};
  onInput = (): void => {};
  onSize = (): void => {};
  private peer: Peer | undefined;
  private readonly waits = new Set<() => void>();

  get isTaken(): boolean {
    return this.peer !== undefined;
  }

  /** Whoever comes second is sent away. */
  join(peer: Peer): void {
    if (this.peer) {
      peer.output.destroy();
      return;
    }
    this.peer = peer;
    peer.input?.on("readable", () => this.onInput()).on("error", () => peer.output.destroy());
    peer.output.on("drain", () => this.endWaits()).on("error", () => {});
    peer.output.once("close", () => {
      this.peer = undefined;
      this.endWaits();
      this.onPeer();
    });
    this.onPeer();
    this.onInput();
  }

  resize(size: WindowSize): void {
    this.size = size;
    this.onSize();
  }

  /** What the peer has sent since the last time; it waits as long as nobody asks. Empty: nothing. */
  read(): Buffer {
    return this.peer?.input?.read() ?? NOTHING;
  }

  /** Resolves when there is room for more, which is at once where nobody is. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.peer === undefined || this.peer.output.write(bytes)) return;
    await new Promise<void>((resolve) => {
      this.waits.add(resolve);
    });
  }

  /** Lets those go on who wait for room. */
  endWaits(): void {
    for (const goOn of this.waits) goOn();
    this.waits.clear();
  }

  close(): void {
    this.peer?.output.destroy();
  }
}
