// The key that tells the terminal's own end something, in the midst of what is typed for a guest.

/** A key as it is typed with Ctrl. */
export interface ControlKey {
  readonly byte: number;
  /** Such as "Ctrl-]". */
  readonly name: string;
}

export interface Typed {
  /** For the guest. */
  bytes: Buffer;
  /** What the terminal's own end is told, if anything: q was typed behind the key, or what has no meaning there. */
  command: "detach" | "help" | undefined;
}

const DETACH = 0x71; // q

/** "^]", "ctrl-a" and the like. Undefined if it is none. */
export function controlKey(text: string): ControlKey | undefined {
  const [, letter] = /^(?:\^|ctrl-)([@a-z[\\\]^_])$/i.exec(text) ?? [];
  if (letter === undefined) return undefined;
  const upper = letter.toUpperCase();
  return { byte: upper.charCodeAt(0) & 0x1f, name: `Ctrl-${upper}` };
}

/** The key twice is the key itself for the guest; q behind it detaches. */
export class EscapeKey {
  private isPressed = false;

  /** Without a key all is for the guest. */
  constructor(private readonly key: ControlKey | undefined) {}

  /** What follows a "detach" is dropped. */
  read(typed: Buffer): Typed {
    if (this.key === undefined) return { bytes: typed, command: undefined };
    const bytes: number[] = [];
    let command: Typed["command"];
    for (const byte of typed) {
      const isKey = byte === this.key.byte;
      if (!this.isPressed && isKey) {
        this.isPressed = true;
        continue;
      }
      if (!this.isPressed || isKey) bytes.push(byte);
      else command = byte === DETACH ? "detach" : "help";
      this.isPressed = false;
      if (command === "detach") break;
    }
    return { bytes: Buffer.from(bytes), command };
  }
}
