// What is bundled and published: esbuild's entry points.
export const WORKER = "host/workers/worker-thread.ts";

export const ENTRIES = [
  { in: "host/programs/vringd-blk.ts", out: "vringd-blk" },
  { in: "host/programs/vringd-rng.ts", out: "vringd-rng" },
  { in: "host/programs/vringd-console.ts", out: "vringd-console" },
  { in: "host/programs/vringd.ts", out: "vringd" },
  { in: WORKER, out: "worker" },
  { in: "host/library/index.ts", out: "index" },
];
