// Bugs that the fuzzer must find: each is a check, or an order, taken out of the core's source.
import type { Patch } from "./build.ts";

export const PLANTED_BUGS: Record<string, Patch> = {
  "a descriptor past the ring": {
    file: "virtqueue/chain.ts",
    from: "if (position >= queue.size) return chainCount === 0 ? FAULT_HEAD_PAST_QUEUE : FAULT_NEXT_PAST_TABLE;",
    to: "",
  },
  "a buffer past its region": {
    file: "virtqueue/guest-memory.ts",
    from: "return min<u64>(byteLength, bytesFrom(entry, gpa));",
    to: "return byteLength;",
  },
  "a read past the end of the disk": {
    file: "block/disk.ts",
    from: "return sector <= capacity && sectorCount <= capacity - sector;",
    to: "return sector + sectorCount <= capacity;",
  },
  "a completion for a request that is over": {
    file: "turn.ts",
    from: "  if (slot.hasOperation === 0) {\n    passStray();\n    return;\n  }\n",
    to: "",
  },
  "a slot that is given back twice": {
    file: "turn.ts",
    from: "pushUsed(slot.queue, slot, slot.usedBytes);",
    to: "pushUsed(slot.queue, slot, slot.usedBytes);\n      release(slot);",
  },
  "an entry in a ring that is full": {
    file: "turn.ts",
    from: "if (budget === 0 || !hasSqeRoom()) {",
    to: "if (budget === 0) {",
  },
  "a read into what the device may not write": {
    file: "block/request.ts",
    from: "return addSegments(request, gpa, byteLength, request.type === VIRTIO_BLK_T_OUT);",
    to: "return addSegments(request, gpa, byteLength, request.type < 2);",
  },
  "an indirect table without an end": {
    file: "virtqueue/chain.ts",
    from: "if (++tableRead > min<u32>(tableCount, TABLE_MAX)) return FAULT_CHAIN_TOO_LONG;",
    to: "",
  },
  "an inflight list out of its region": {
    file: "virtqueue/split-inflight.ts",
    from: "if (head >= queue.inflightEntries) return false;",
    to: "",
  },
  "a write that is not durable": {
    file: "block/stability.ts",
    from: "return request.sync === SYNC_ASKED ? RWF_DSYNC : 0;",
    to: "return 0;",
  },
  "a flush that is believed after one has failed": {
    file: "block/stability.ts",
    from: "return result === 0 && !hasSyncFailed() ?",
    to: "return result === 0 ?",
  },
  "more copied out of a bounce buffer than was read": {
    file: "block/transfer.ts",
    from: "request.bounceLength = result;",
    to: "",
  },
  "a readable buffer that the device is told to write": {
    file: "chain-operation.ts",
    from: "const isFirst = operation.vectorCount === operation.readableCount;",
    to: "const isFirst = operation.vectorCount === 0;",
  },
  "more written than a chain has room for": {
    file: "chain-operation.ts",
    from: "return <u32>min<u64>(byteLength, operation.writableBytes);",
    to: "return <u32>byteLength;",
  },
  "a chain that nobody has asked for": {
    file: "virtqueue/queue.ts",
    from: "if (queue.credit !== <u32>CREDIT_UNLIMITED) queue.credit--;",
    to: "",
  },
  "a write to a read-only disk": {
    file: "block/execute.ts",
    from: "return isReadOnly() ? VIRTIO_BLK_S_IOERR : startTransfer(request, request.outBytes);",
    to: "return startTransfer(request, request.outBytes);",
  },
};
