// Guided tours: what is done at each stop, what to look at, and what it means.
import type { RingConfig } from "./config.ts";

/** Parts of the page that a stop points to. */
export type Place = "driver" | "ring" | "core" | "stores" | "inflight" | "kernel" | "disk";

export interface Stop {
  codes: string[];
  look: Place;
  text: string;
}

export interface Tour {
  name: string;
  config: RingConfig;
  stops: Stop[];
}

const SPLIT: RingConfig = { isPacked: false, size: 8, hasEventIdx: true };
const PACKED: RingConfig = { isPacked: true, size: 8, hasEventIdx: true };

export const TOURS: Tour[] = [
  {
    name: "One request, from kick to call",
    config: SPLIT,
    stops: [
      {
        codes: [],
        look: "ring",
        text: "An empty ring. It lies in the guest's memory; the driver and the core both see it. The core sleeps until the driver says there is something.",
      },
      {
        codes: ["w5"],
        look: "ring",
        text: "The driver writes a request: three descriptors (header, data, status) in a chain, the chain's head into the avail ring, and last of all avail.idx. Only that index makes it the device's.",
      },
      {
        codes: ["k"],
        look: "driver",
        text: "avail_event said that a kick is wanted at this chain, so the driver kicks. A kick says only: look.",
      },
      {
        codes: ["s"],
        look: "inflight",
        text: "The core takes the chain. Before it does anything for it, it writes down in the inflight region that it has it. Then it asks the kernel to write.",
      },
      {
        codes: ["c0"],
        look: "disk",
        text: "The kernel has written. Guest memory has not changed: nobody but the core tells the driver.",
      },
      {
        codes: [],
        look: "stores",
        text: "These are the stores that the core's next step will make, in order: status, used element, used.idx, and then the inflight region. The store to used.idx is the moment at which the driver can see it all.",
      },
      {
        codes: ["s"],
        look: "ring",
        text: "Published: used.idx is 1. The driver had set used_event to 0, so it is called.",
      },
      {
        codes: ["u"],
        look: "driver",
        text: "The driver takes its chain back, finds status OK, and may use the descriptors again. That was one request.",
      },
    ],
  },
  {
    name: "A crash, and recovery",
    config: SPLIT,
    stops: [
      {
        codes: ["w2", "r9", "k", "s"],
        look: "inflight",
        text: "Two requests are on their way. Both are on record in the inflight region, with counters that tell their order.",
      },
      {
        codes: ["c0"],
        look: "stores",
        text: "The kernel has done the first. The outlined panel has the stores with which the core will give it back. Between the one to used.idx (publish) and the last ones (commit) lies the worst moment to die: the driver knows, the record does not.",
      },
      {
        codes: ["x6"],
        look: "inflight",
        text: "It dies right there: used.idx is 1 in the ring, inflight.used_idx still 0, and both entries still say in flight. All that the core knew by itself is gone.",
      },
      {
        codes: ["v"],
        look: "inflight",
        text: "A new core compares the two. The ring is one ahead, so the batch was published: it commits it. The read is left, and is to be done again. The write is not: its driver can see that it is done.",
      },
      {
        codes: ["s"],
        look: "kernel",
        text: "The leftover goes to the kernel once more. And the driver is called in any case, since the predecessor may not have come to it.",
      },
      {
        codes: ["u", "c0", "s", "u"],
        look: "driver",
        text: "Both requests have ended, each of them once. Go back and try other stores to die before.",
      },
    ],
  },
  {
    name: "The packed ring",
    config: PACKED,
    stops: [
      {
        codes: ["w3"],
        look: "ring",
        text: "A packed ring has no avail and no used ring: the driver marks descriptors as available by two bits, AVAIL and USED, which differ. It writes those of the chain's first descriptor last.",
      },
      {
        codes: ["k", "s"],
        look: "inflight",
        text: "Used descriptors will overwrite available ones. So the inflight region has copies of them, in entries taken from a free list.",
      },
      {
        codes: ["c0", "s"],
        look: "ring",
        text: "Done: one used descriptor, with the buffer id, where the chain began. AVAIL and USED are equal now. The two behind it are the driver's again, though nobody has touched them.",
      },
      {
        codes: ["u", "ir3", "k", "s", "c0", "s", "u", "w4x2", "k", "s"],
        look: "ring",
        text: "On and on: an indirect request took one place, this one takes four and reaches the end of the ring. There the wrap counter turns, and with it the meaning of both bits.",
      },
      {
        codes: ["c0", "s", "u", "f", "k"],
        look: "ring",
        text: "The next lap: available is now AVAIL clear and USED set.",
      },
    ],
  },
];
