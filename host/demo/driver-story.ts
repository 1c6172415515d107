// What the driver does, in words, with the clauses that ask for it.
import type { RingConfig } from "./config.ts";
import type { Mischief } from "./demo-ring.ts";
import type { GuestRequest } from "./guest.ts";
import { type Line, statusName } from "./stores.ts";

export const MISCHIEF: Record<Mischief, string> = {
  head: "a head past the end of the queue",
  loop: "a chain that runs in a circle",
  address: "an address outside guest memory",
  table: "an indirect table of 10 bytes",
};

export function addLines({ isPacked }: RingConfig, { token, isIndirect, kind }: GuestRequest): Line[] {
  const buffers = kind === "flush" ? "header and status" : "header, data and status";
  const table: Line[] = isIndirect
    ? [
        {
          text: "one descriptor points to a table with the others",
          clause: isPacked ? "virtio 2.8.7" : "virtio 2.7.5.3",
        },
      ]
    : [];
  if (isPacked) {
    return [
      { text: `writes descriptors for ${buffers}, all with buffer id ${token}`, clause: "virtio 2.8.21.1" },
      ...table,
      {
        text: "writes the flags of the first one last: they make the chain available",
        clause: "virtio 2.8.21.1",
      },
    ];
  }
  return [
    { text: `writes descriptors for ${buffers}`, clause: "virtio 2.7.13.1" },
    ...table,
    { text: `puts head ${token} into the avail ring`, clause: "virtio 2.7.13.2" },
    { text: "moves avail.idx past it: from here on the device may take it", clause: "virtio 2.7.13.3" },
  ];
}

export function describeUsed({ serial, kind, status, letters }: GuestRequest, byteLength: number): string {
  const read = kind === "read" && letters !== "" ? `; it read ${letters}` : "";
  return `#${serial}: status ${statusName(status ?? 0)}, ${byteLength} bytes written into the chain${read}`;
}
