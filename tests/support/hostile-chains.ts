// Descriptor chains that no honest driver would write, or that few would: for any queue of any device, in either ring format.
import { BLK_HEADER_SIZE } from "../../assembly/spec/virtio-blk.ts";
import {
  DESC_SIZE,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import type { RingAddresses } from "../../host/driver/ring.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { DEFAULT_LAYOUT, type RegionLayout } from "../../host/front-end/memory.ts";
import { type RawDescriptor, type RawPackedRing, RawSplitRing } from "./raw-ring.ts";

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;

const [REGION] = DEFAULT_LAYOUT;
export const REGION_START = BigInt(REGION!.gpa);
export const MEMORY_END = BigInt(REGION!.gpa + REGION!.byteLength);
/** A region with a hole on either side. */
export const ISLAND: RegionLayout = { gpa: 2 ** 40, byteLength: 65536, userAddress: 2 ** 40 };
export const ISLAND_END = BigInt(ISLAND.gpa + ISLAND.byteLength);
/** Two regions of which one begins where the other ends. */
const TWINS: readonly RegionLayout[] = [0, 1].map((i) => ({
  gpa: 2 ** 41 + i * 65536,
  byteLength: 65536,
  userAddress: 2 ** 41 + i * 2 ** 30,
}));
const BORDER = BigInt(TWINS[1]!.gpa);

/** What hostile front-ends share. */
export const HOSTILE_LAYOUT: readonly RegionLayout[] = [...DEFAULT_LAYOUT, ISLAND, ...TWINS];

/** Guest memory that chains point to. */
export interface Places {
  /** What a device may take for the beginning of a request. */
  header: bigint;
  data: bigint;
  table: bigint;
  /** Of the ring itself. */
  ring: RingAddresses;
}

export const DATA_BYTES = 4096;
/** Room for as many descriptors as any chain here has. */
const TABLE_BYTES = 2048 * DESC_SIZE;

export function allocatePlaces({ memory, queues }: FrontEnd, queue: number, header: Uint8Array): Places {
  const at = memory.allocate(header.length);
  memory.write(at, header);
  return {
    header: BigInt(at),
    data: BigInt(memory.allocate(DATA_BYTES)),
    table: BigInt(memory.allocate(TABLE_BYTES)),
    ring: queues[queue]!.ring.addresses,
  };
}

/** A descriptor without the link that its ring's format needs. */
export type Bare = Omit<RawDescriptor, "next" | "id">;

export function readable(addr: bigint, len = BLK_HEADER_SIZE): Bare {
  return { addr, len, flags: 0 };
}

function writable(addr: bigint, len: number): Bare {
  return { addr, len, flags: WRITE };
}

/** Chains that break their ring, as a list of descriptors, which each format links in its own way. */
export const BREAKING_CHAINS: readonly [name: string, chain: (places: Places) => Bare[], reason: RegExp][] = [
  [
    "an address outside of guest memory",
    ({ header }) => [readable(header), writable(0x10n, 512)],
    /outside guest memory/,
  ],
  [
    "a header outside of guest memory",
    ({ data }) => [readable(MEMORY_END), writable(data, 1)],
    /outside guest memory/,
  ],
  [
    "a buffer that reaches over the end of guest memory",
    ({ header }) => [readable(header), writable(MEMORY_END - 256n, 512)],
    /outside guest memory/,
  ],
  [
    "a buffer that wraps around 2^64",
    ({ header }) => [readable(header), writable(2n ** 64n - 256n, 512)],
    /outside guest memory/,
  ],
  [
    "a buffer of 4 GiB less a byte",
    ({ header, data }) => [readable(header), writable(data, 0xffff_ffff)],
    /outside guest memory/,
  ],
  [
    "a buffer that reaches from one region over a hole",
    ({ header }) => [readable(header), writable(ISLAND_END - 256n, 4096)],
    /outside guest memory/,
  ],
  [
    "a header that ends beyond its region",
    ({ data }) => [readable(ISLAND_END - 8n), writable(data, 513)],
    /outside guest memory/,
  ],
  [
    "a readable descriptor behind a writable one",
    ({ header, data }) => [writable(data, 513), readable(header)],
    /readable descriptor follows a writable/,
  ],
  [
    "an indirect table of length 0",
    ({ table }) => [{ addr: table, len: 0, flags: INDIRECT }],
    /indirect table's length/,
  ],
  [
    "an indirect table of 17 bytes",
    ({ table }) => [{ addr: table, len: 17, flags: INDIRECT }],
    /indirect table's length/,
  ],
  [
    "an indirect table outside of guest memory",
    () => [{ addr: MEMORY_END, len: 32, flags: INDIRECT }],
    /outside guest memory/,
  ],
  [
    "an indirect table that wraps around 2^64",
    () => [{ addr: 2n ** 64n - 16n, len: 32, flags: INDIRECT }],
    /outside guest memory/,
  ],
  [
    "an indirect table with something behind it",
    ({ table, header }) => [{ addr: table, len: 32, flags: INDIRECT | NEXT }, readable(header)],
    /indirect descriptor stands where none may be/,
  ],
];

/** Chains that break no ring, whatever the device makes of them: each must come back. */
export const STRANGE_CHAINS: readonly [name: string, chain: (places: Places) => Bare[]][] = [
  ["a byte to read and nothing else", ({ header }) => [readable(header, 1)]],
  ["a byte to write and nothing else", ({ data }) => [writable(data, 1)]],
  ["three buffers of no length to read", ({ header }) => Array(3).fill(readable(header, 0))],
  ["three buffers of no length to write", ({ data }) => Array(3).fill(writable(data, 0))],
  [
    "buffers of no length everywhere",
    ({ header, data }) => [
      readable(0n, 0),
      readable(header),
      readable(header, 0),
      writable(0n, 0),
      writable(data, 513),
      writable(2n ** 64n - 1n, 0),
    ],
  ],
  ["buffers to read alone", ({ data }) => Array(8).fill(readable(data, DATA_BYTES))],
  ["buffers to write alone", ({ data }) => Array(8).fill(writable(data, DATA_BYTES))],
  [
    "one byte after the other",
    ({ header, data }) => [
      ...Array.from({ length: 8 }, (_, i) => readable(header + BigInt(i), 1)),
      ...Array.from({ length: 8 }, (_, i) => writable(data + BigInt(i * 2), 1)),
    ],
  ],
  ["what is read and what is written in one place", ({ header }) => [readable(header), writable(header, 16)]],
  [
    "a buffer that two regions share",
    ({ header }) => [readable(header), writable(BORDER - 256n, 512), writable(BORDER - 1n, 2)],
  ],
  ["a header that two regions share", ({ data }) => [readable(BORDER - 8n), writable(data, 513)]],
  ["half of memory to read, and again", ({ header }) => [readable(header), ...halfOfMemory(4, 0)]],
  ["half of memory to write, and again", ({ header }) => [readable(header), ...halfOfMemory(4, WRITE)]],
  ["more bytes to write than 32 bits count", ({ header }) => [readable(header), ...halfOfMemory(200, WRITE)]],
  ["more bytes to read than 32 bits count", ({ header }) => [readable(header), ...halfOfMemory(200, 0)]],
  ["1,024 buffers to write", ({ data }) => apart(data, 1024, WRITE)],
  ["1,024 buffers to read", ({ data }) => apart(data, 1024, 0)],
  ["more buffers than one operation takes", ({ data }) => apart(data, 1500, WRITE)],
];

/** Chains through which a device reads or writes the ring that they came by. What follows is the guest's own doing. */
export const OVERLAPPING_CHAINS: readonly [name: string, chain: (places: Places) => Bare[]][] = (
  ["descriptor", "available", "used"] as const
).flatMap((part): [string, (places: Places) => Bare[]][] => [
  [`the ring's ${part} part to write`, ({ header, ring }) => [readable(header), overlap(ring[part], WRITE)]],
  [`the ring's ${part} part to read`, ({ data, ring }) => [overlap(ring[part], 0), writable(data, 513)]],
]);

function overlap(gpa: number, flags: number): Bare {
  return { addr: BigInt(gpa), len: 64, flags };
}

/** The upper half: what drivers allocate, such as rings, lies below. */
function halfOfMemory(count: number, flags: number): Bare[] {
  const len = REGION!.byteLength / 2;
  return Array(count).fill({ addr: MEMORY_END - BigInt(len), len, flags });
}

/** Buffers that don't follow each other, so that none become one. */
function apart(data: bigint, count: number, flags: number): Bare[] {
  return Array.from({ length: count }, (_, i) => ({ addr: data + BigInt((i % 2) * 2048), len: 1, flags }));
}

type AnyRing = RawSplitRing | RawPackedRing;

/** From slot 0, in whichever format. The first descriptor's flags make the rest visible, so it comes last. */
export function writeChain(
  ring: AnyRing,
  chain: readonly Bare[],
  options: { isOpen?: boolean; id?: number } = {},
): void {
  const { isOpen = false, id = 0 } = options;
  for (let i = chain.length - 1; i >= 0; i--) {
    const { addr, len, flags } = chain[i]!;
    const link = i + 1 < chain.length || isOpen ? NEXT : 0;
    if (ring instanceof RawSplitRing) {
      ring.writeDescriptor(i, { addr, len, flags: flags | link, next: i + 1 });
    } else {
      ring.writeDescriptor(i, { addr, len, flags: flags | link | ring.availFlags, id });
    }
  }
}

/** The same in an indirect table: a packed ring's has no links. */
export function writeIndirectChain(
  frontEnd: FrontEnd,
  ring: AnyRing,
  table: bigint,
  chain: readonly Bare[],
): void {
  const isSplit = ring instanceof RawSplitRing;
  const link = (i: number) => (isSplit && i + 1 < chain.length ? NEXT : 0);
  const linked = chain.map(({ flags, ...rest }, i) => ({ ...rest, flags: flags | link(i), next: i + 1 }));
  // Flags and the last field have changed places in a packed ring.
  if (isSplit) writeTable(frontEnd, table, linked);
  else
    writeTable(
      frontEnd,
      table,
      linked.map(({ flags, next, ...rest }) => ({ ...rest, flags: 0, next: flags })),
    );
  writeChain(ring, [{ addr: table, len: chain.length * DESC_SIZE, flags: INDIRECT }]);
}

/** A split ring's indirect table. */
export function writeTable(frontEnd: FrontEnd, gpa: bigint, descriptors: readonly RawDescriptor[]): void {
  const bytes = Buffer.alloc(descriptors.length * DESC_SIZE);
  descriptors.forEach(({ addr, len, flags, next = 0 }, i) => {
    bytes.writeBigUInt64LE(addr, i * DESC_SIZE);
    bytes.writeUInt32LE(len, i * DESC_SIZE + 8);
    bytes.writeUInt16LE(flags, i * DESC_SIZE + 12);
    bytes.writeUInt16LE(next, i * DESC_SIZE + 14);
  });
  frontEnd.memory.write(Number(gpa), bytes);
}

/** Rings that break whatever their chains say: by links of their own format. */
export function breakingRings(ring: AnyRing, { header, table }: Places): [name: string, write: () => void][] {
  const { size } = ring;
  const open = { addr: header, len: 16, flags: NEXT };
  if (!(ring instanceof RawSplitRing)) {
    const behind = [readable(header), { addr: table, len: 32, flags: INDIRECT }];
    return [
      [
        "a chain that is longer than the ring",
        () => writeChain(ring, Array(size).fill(open), { isOpen: true }),
      ],
      ["a table behind another descriptor", () => writeChain(ring, behind)],
    ];
  }
  const publish = (head: number, ...descriptors: RawDescriptor[]) => {
    descriptors.forEach((descriptor, i) => void ring.writeDescriptor(i, descriptor));
    ring.publishRaw(head);
  };
  return [
    ["a chain in a circle", () => publish(0, { ...open, next: 1 }, { ...open, next: 0 })],
    ["a descriptor that follows itself", () => publish(0, { ...open, len: 0, next: 0 })],
    ["a next past the end", () => publish(0, { ...open, next: size })],
    ["a head past the end", () => publish(size)],
    ["an avail index far ahead", () => ring.writeAvailIdx(0x8000)],
  ];
}

/** Writes a chain where the device will find it. */
export function offerRaw(
  frontEnd: FrontEnd,
  ring: AnyRing,
  places: Places,
  chain: readonly Bare[],
  isIndirect: boolean,
): void {
  if (isIndirect) writeIndirectChain(frontEnd, ring, places.table, chain);
  else writeChain(ring, chain);
  if (ring instanceof RawSplitRing) ring.publishRaw(0);
}
