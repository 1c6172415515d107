// Bytes that lie in several places.

/** So many of the first, which there must be. */
export function firstOf(parts: readonly Uint8Array[], byteLength: number): Uint8Array[] {
  const taken: Uint8Array[] = [];
  for (let i = 0, left = byteLength; left > 0; i++) {
    taken.push(parts[i]!.subarray(0, left));
    left -= taken.at(-1)!.length;
  }
  return taken;
}

/** All but so many of the first. */
export function restOf(parts: readonly Uint8Array[], byteLength: number): Uint8Array[] {
  let left = byteLength;
  return parts.map((part) => {
    const rest = part.subarray(left);
    left -= part.length - rest.length;
    return rest;
  });
}
