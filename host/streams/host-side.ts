// Where a guest's stream of bytes ends on this machine: whoever comes its way, and a terminal beside. It knows nothing of rings.
import type { Duplex, Readable, Writable } from "node:stream";
import type { WindowSize } from "../linux/pty.ts";

/** Who is there. `output` closes when they go. */
export interface Peer {
  readonly input?: Readable;
  readonly output: Writable;
}

/** Each is for one peer at a time. */
type Seat = "way" | "terminal";

const NOTHING = Buffer.alloc(0);

export class HostSide {
  /** That of the peer's window, if one has told. */
  size: WindowSize | undefined;
  /** Called when a peer has come or gone; has sent something; has told its window's size. */
  onPeer = (): void => {};
  onInput = (): void => {};
  onSize = (): void => {};
  /** Closes the way here. What it has written by then is not lost. */
  closeWay: () => void | Promise<void> = () => {};
  private readonly peers = new Map<Seat, Peer>();
  /** How long a peer that does not read is waited for. Then it is passed over until it reads. Left out: for ever. */
  patienceMs: number | undefined;
  private readonly passedOver = new Set<Peer>();
  private readonly waits = new Set<() => void>();

  get isTaken(): boolean {
    return this.peers.size > 0;
  }

  get isAttached(): boolean {
    return this.peers.has("terminal");
  }

  /** By the way here. Whoever comes second is sent away. */
  join(peer: Peer): void {
    this.sit("way", peer);
  }

  /** A terminal beside the way's peer. When it has sent its last, and all of that was read, it is let go. */
  attach(terminal: Duplex): void {
    terminal.on("end", () => terminal.end());
    this.sit("terminal", { input: terminal, output: terminal });
  }

  detach(): void {
    this.peers.get("terminal")?.output.destroy();
  }

  resize(size: WindowSize): void {
    this.size = size;
    this.onSize();
  }

  get hasInput(): boolean {
    return [...this.peers.values()].some(({ input }) => input !== undefined && input.readableLength > 0);
  }

  /** At most so much of what a peer has sent; the rest waits. Empty: nothing. */
  read(byteLength: number): Buffer {
    for (const { input } of this.peers.values()) {
      if (input === undefined || input.readableLength === 0) continue;
      const bytes = input.read(Math.min(byteLength, input.readableLength));
      lookOn(input);
      return bytes ?? NOTHING;
    }
    return NOTHING;
  }

  /** Whether all who are there have taken enough of what they were sent before. */
  get hasRoom(): boolean {
    return this.heeded().every(({ output }) => !output.writableNeedDrain);
  }

  /** The most that one of them was sent and has not taken yet, in bytes. */
  get backlog(): number {
    return Math.max(0, ...this.heeded().map(({ output }) => output.writableLength));
  }

  /** Resolves when there is room, which is at once where nobody is; when patience ends, or the waits are ended. */
  async room(): Promise<void> {
    if (this.hasRoom) return;
    const { patienceMs } = this;
    const timer = patienceMs === undefined ? undefined : setTimeout(() => this.passOver(), patienceMs);
    await new Promise<void>((resolve) => {
      this.waits.add(resolve);
    });
    clearTimeout(timer);
  }

  /** Gives it to all who are there. They keep what they have no room for: whoever writes much awaits room() before. */
  write(bytes: Uint8Array): void {
    for (const { output } of this.heeded()) if (output.writable) output.write(bytes);
  }

  /** Lets those go on who wait for room. */
  endWaits(): void {
    for (const goOn of this.waits) goOn();
    this.waits.clear();
  }

  async close(): Promise<void> {
    await this.closeWay();
    for (const { output } of this.peers.values()) output.destroy();
  }

  private heeded(): Peer[] {
    return [...this.peers.values()].filter((peer) => !this.passedOver.has(peer));
  }

  private passOver(): void {
    for (const peer of this.heeded()) if (peer.output.writableNeedDrain) this.passedOver.add(peer);
    this.endWaits();
  }

  private sit(seat: Seat, peer: Peer): void {
    const { input, output } = peer;
    if (this.peers.has(seat)) {
      output.destroy();
      return;
    }
    this.peers.set(seat, peer);
    const goOn = () => {
      this.passedOver.delete(peer);
      if (this.hasRoom) this.endWaits();
    };
    input
      ?.on("readable", () => {
        lookOn(input);
        this.onInput();
      })
      .on("error", () => output.destroy());
    output.on("drain", goOn).on("error", () => {});
    output.once("close", () => {
      this.peers.delete(seat);
      goOn();
      this.onPeer();
    });
    this.onPeer();
    this.onInput();
  }
}

/** A stream of which everything was read finds out that it has ended when it is asked for more. */
function lookOn(input: Readable): void {
  if (input.readableLength === 0) input.read(0);
}
