// Random numbers that a seed repeats.

export class Random {
  private state: number;

  constructor(readonly seed = 1 + Math.floor(Math.random() * 0x7fff_ffff)) {
    this.state = seed;
  }

  /** A whole number from 0 up to, and without, `end`. */
  below(end: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * end);
  }

  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  bytes(byteLength: number): Buffer {
    const bytes = Buffer.allocUnsafe(byteLength);
    let at = 0;
    for (; at + 4 <= byteLength; at += 4) bytes.writeUInt32LE(this.next(), at);
    for (; at < byteLength; at++) bytes[at] = this.next();
    return bytes;
  }

  /** Cuts a length into up to `most` pieces, none of them empty. */
  cut(byteLength: number, most: number): number[] {
    const pieces: number[] = [];
    for (let left = byteLength; left > 0; ) {
      const piece = pieces.length + 1 === most ? left : this.between(1, left);
      pieces.push(piece);
      left -= piece;
    }
    return pieces;
  }

  /** xorshift32. */
  private next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state;
  }
}

/** Random numbers for a test, whose report names the seed. VRINGD_TEST_SEED repeats one. */
export function tellSeed(t: { diagnostic(message: string): void }): Random {
  const { VRINGD_TEST_SEED: seed } = process.env;
  const random = new Random(seed === undefined ? undefined : Number(seed));
  t.diagnostic(`seed ${random.seed}`);
  return random;
}
