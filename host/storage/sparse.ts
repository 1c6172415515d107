// Bytes that are to be stored, told apart from zeroes that need no space.
/** What file systems give space by, mostly. */
const BLOCK_BYTES = 4096;

const ZEROES = Buffer.alloc(BLOCK_BYTES);

export interface Part {
  /** In the buffer. */
  start: number;
  end: number;
  isZero: boolean;
}

/** The buffer in parts of whole blocks, each zeroes alone or with something else in every block. */
export function* partsOf(bytes: Uint8Array): Generator<Part> {
  for (let start = 0; start < bytes.length; ) {
    const isZero = isZeroBlock(bytes, start);
    let end = start + BLOCK_BYTES;
    while (end < bytes.length && isZeroBlock(bytes, end) === isZero) end += BLOCK_BYTES;
    yield { start, end: Math.min(end, bytes.length), isZero };
    start = end;
  }
}

function isZeroBlock(bytes: Uint8Array, start: number): boolean {
  const end = Math.min(start + BLOCK_BYTES, bytes.length);
  return ZEROES.compare(bytes, start, end, 0, end - start) === 0;
}
