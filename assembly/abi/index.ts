// All that the core and its host share, for those who want it whole: other embedders, and the test of ABI.md. Whoever needs
// a part of it imports that part.
export * from "./block.ts";
export * from "./chain.ts";
export * from "./device-block.ts";
export * from "./faults.ts";
export * from "./guest-memory.ts";
export * from "./limits.ts";
export * from "./memory.ts";
export * from "./queue.ts";
export * from "./statistics.ts";
export * from "./step.ts";
export * from "./worker.ts";
