// Which ring is shown.

export interface RingConfig {
  isPacked: boolean;
  size: number;
  hasEventIdx: boolean;
}

export const RING_SIZES = [4, 8, 16];

export const FIRST_CONFIG: RingConfig = { isPacked: false, size: 8, hasEventIdx: true };
