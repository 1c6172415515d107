// How long a socket device waits for either side.

export interface Patience {
  /** Whoever is called. */
  readonly connectMs: number;
  /** A guest that was told that a connection is over in both directions. */
  readonly closeMs: number;
  /** A caller of the host's, to say whom it wants. */
  readonly helloMs: number;
  /** A host side that does not read what a guest has sent before it went. */
  readonly lingerMs: number;
}

export const PATIENCE: Patience = { connectMs: 10_000, closeMs: 10_000, helloMs: 10_000, lingerMs: 60_000 };
