// What a hostile front-end may say: every request with every field at its edges, and anything at random.
import {
  encodeConfig,
  encodeHeader,
  encodeInflight,
  encodeMemoryTable,
  encodeMessage,
  encodeSingleRegion,
  encodeU64,
  encodeVringAddress,
  encodeVringState,
  type MemoryRegion,
  type VringAddress,
} from "../../host/protocol/codec.ts";
import * as m from "../../host/protocol/messages.ts";
import type { Random } from "./random.ts";

const U64_MAX = 2n ** 64n - 1n;

const EDGES_16 = [0, 1, 2, 0x7fff, 0x8000, 0xffff];
const EDGES_32 = [...EDGES_16, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
const EDGES_64 = [
  ...EDGES_32.map(BigInt),
  2n ** 32n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  U64_MAX - 4095n,
  U64_MAX,
];

/** What an honest front-end would say instead; a field at a time is replaced. */
export interface Honest {
  queueCount: number;
  region: MemoryRegion;
  address: VringAddress;
}

/** Requests that nobody knows: 0, the last and those behind it, and numbers that look negative. */
const UNKNOWN = [0, m.VHOST_USER_GET_SHMEM_CONFIG + 1, 255, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

export const REQUESTS: readonly number[] = [
  ...Array.from({ length: m.VHOST_USER_GET_SHMEM_CONFIG }, (_, i) => i + 1),
  ...UNKNOWN,
];

/** Payloads that any request may come with, whatever it should have. */
const ANY_PAYLOAD = [0, 1, 4, 7, 8, 12, 40, 264, 4096].map((byteLength) => Buffer.alloc(byteLength, 0xff));

/** Every payload worth trying with a request. */
export function payloadsOf(request: number, honest: Honest): Buffer[] {
  return [...ANY_PAYLOAD, ...edgesOf(request, honest)];
}

function edgesOf(request: number, { queueCount, region, address }: Honest): Buffer[] {
  const rings = [0, queueCount - 1, queueCount, ...EDGES_32];
  switch (request) {
    case m.VHOST_USER_SET_FEATURES:
    case m.VHOST_USER_SET_PROTOCOL_FEATURES:
    case m.VHOST_USER_SET_STATUS:
      return [...EDGES_64, ...bits()].map(encodeU64);
    case m.VHOST_USER_SET_VRING_KICK:
    case m.VHOST_USER_SET_VRING_CALL:
    case m.VHOST_USER_SET_VRING_ERR:
      return [...EDGES_64, BigInt(queueCount), 0x100n, 0x1ffn].map(encodeU64);
    case m.VHOST_USER_SET_VRING_NUM:
    case m.VHOST_USER_SET_VRING_BASE:
    case m.VHOST_USER_GET_VRING_BASE:
    case m.VHOST_USER_SET_VRING_ENABLE:
    case m.VHOST_USER_SET_VRING_ENDIAN:
      return [
        ...rings.map((index) => encodeVringState({ index, num: 1 })),
        ...EDGES_32.map((num) => encodeVringState({ index: 1, num })),
      ];
    case m.VHOST_USER_SET_VRING_ADDR:
      return variants(address, { index: rings, flags: EDGES_32 }).map(encodeVringAddress);
    case m.VHOST_USER_SET_MEM_TABLE:
      return tables(region);
    case m.VHOST_USER_ADD_MEM_REG:
    case m.VHOST_USER_REM_MEM_REG:
      return variants(region, {}).map(encodeSingleRegion);
    case m.VHOST_USER_GET_CONFIG:
    case m.VHOST_USER_SET_CONFIG:
      return configs();
    case m.VHOST_USER_GET_INFLIGHT_FD:
    case m.VHOST_USER_SET_INFLIGHT_FD: {
      const description = { mmapSize: 4096n, mmapOffset: 0n, numQueues: 1, queueSize: 128 };
      const edges = { numQueues: [queueCount, queueCount + 1, ...EDGES_16], queueSize: EDGES_16 };
      return variants(description, edges).map((each) => encodeInflight(each));
    }
    case m.VHOST_USER_SET_LOG_BASE:
      return variants({ byteLength: 4096n, mmapOffset: 0n }, {}).map(({ byteLength, mmapOffset }) =>
        Buffer.concat([encodeU64(byteLength), encodeU64(mmapOffset)]),
      );
    default:
      return [];
  }
}

function bits(): bigint[] {
  return Array.from({ length: 64 }, (_, bit) => 1n << BigInt(bit));
}

/** The value with one field after the other at each of its edges: those given, or those of 64 bits for bigints. */
function variants<T extends object>(value: T, edges: Partial<Record<keyof T, readonly number[]>>): T[] {
  return (Object.keys(value) as (keyof T)[]).flatMap((name) => {
    const values = typeof value[name] === "bigint" ? EDGES_64 : edges[name]!;
    return values.map((edge) => ({ ...value, [name]: edge }));
  });
}

/** Counts that say more, or less, than there is. */
function tables(region: MemoryRegion): Buffer[] {
  const counts = [0, 1, 2, 8, 9, 509, 510, ...EDGES_32];
  return [1, 2, 8, 9, 100].flatMap((length) => {
    const table = encodeMemoryTable(Array.from({ length }, () => region));
    return counts.map((count) => {
      const payload = Buffer.from(table);
      payload.writeUInt32LE(count, 0);
      return payload;
    });
  });
}

function configs(): Buffer[] {
  const payloads = [0, 1, 60, 255, 256].flatMap((byteLength) =>
    EDGES_32.flatMap((edge) => [
      encodeConfig({ offset: edge, flags: 0, bytes: Buffer.alloc(byteLength) }),
      encodeConfig({ offset: 0, flags: edge, bytes: Buffer.alloc(byteLength) }),
    ]),
  );
  const lies = EDGES_32.map((size) => {
    const payload = encodeConfig({ offset: 0, flags: 0, bytes: Buffer.alloc(60) });
    payload.writeUInt32LE(size, 4);
    return payload;
  });
  return [...payloads, ...lies];
}

/** A message of any kind: mostly known requests with payloads near to what they should be. */
export function randomMessage(random: Random, honest: Honest): Buffer {
  const request = random.pick(REQUESTS);
  const payload = random.pick(payloadsOf(request, honest));
  if (random.below(4) === 0 && payload.length > 0) payload[random.below(payload.length)] = random.below(256);
  const flags = random.below(8) === 0 ? random.below(0x1_0000) & ~m.VHOST_USER_VERSION_MASK : 0;
  const message = encodeMessage(request, flags | m.VHOST_USER_NEED_REPLY_MASK, payload);
  if (random.below(32) > 0) return message;
  const size = random.pick([0, payload.length + 1, 4097, 0xffff_ffff]);
  return Buffer.concat([encodeHeader({ request, flags: random.below(16), size }), payload]);
}
