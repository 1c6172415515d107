// What is bundled and published: esbuild's entry points.
export const WORKER = "host/dataplane/worker-thread.ts";

export const ENTRIES = [
  { in: "host/vringd-blk.ts", out: "vringd-blk" },
  { in: "host/vringd.ts", out: "vringd" },
  { in: WORKER, out: "worker" },
  { in: "host/index.ts", out: "index" },
];
