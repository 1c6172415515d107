// Lists of buffers, as requests bring them, taken as one run of bytes.

export function lengthOf(buffers: readonly Uint8Array[]): number {
  let byteLength = 0;
  for (const buffer of buffers) byteLength += buffer.length;
  return byteLength;
}

/** The bytes from `start` to `end`: the same memory, not a copy. */
export function slice(buffers: readonly Uint8Array[], start: number, end: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const buffer of buffers) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, buffer.length);
    if (from < to) parts.push(buffer.subarray(from, to));
    at += buffer.length;
  }
  return parts;
}
