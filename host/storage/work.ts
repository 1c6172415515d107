// What all work on a disk's blocks has in common: how much of it is done at a time, who watches it, and who may end it.

/** Bytes that are read and written as one. */
export const PIECE_BYTES = 1 << 20;

export interface Work {
  /** Called after each piece: bytes that are done, of all. */
  progress(done: number, total: number): void;
  /** Ends the work in good order, after the piece that is under way. */
  signal: AbortSignal;
}

/** The work was ended by its signal. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/** Does the pieces one after the other. Resolves with their bytes. Throws Interrupted. */
export async function doPieces<T extends { start: number; end: number }>(
  pieces: () => Iterable<T>,
  { progress, signal }: Work,
  each: (piece: T) => Promise<void>,
): Promise<number> {
  let total = 0;
  for (const { start, end } of pieces()) total += end - start;
  let done = 0;
  for (const piece of pieces()) {
    if (signal.aborted) throw new Interrupted();
    await each(piece);
    done += piece.end - piece.start;
    progress(done, total);
  }
  return total;
}
