// A chip that is emulated.

export interface Chip {
  /** For status, such as "lm75". */
  readonly what: string;
  /** Some have several. */
  readonly addresses: readonly number[];
  /** Of no bytes: it is asked whether it is there. */
  write(address: number, bytes: Uint8Array): void | Promise<void>;
  /** Fills all of it. */
  read(address: number, bytes: Uint8Array): void | Promise<void>;
  close?(): void | Promise<void>;
}
