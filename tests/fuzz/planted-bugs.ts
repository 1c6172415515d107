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
  "a limit that is not charged": {
    file: "block/limits.ts",
    from: "max<u64>(charge(sizeBucket, bytes), charge(countBucket, requests)),",
    to: "charge(countBucket, requests),",
  },
  "a burst that is not charged": {
    file: "block/limits.ts",
    from: "if (burstPrice !== 0) pay(bucket + LIMIT_BURST_PAID_UNTIL, costOf(units, burstPrice));",
    to: "",
  },
  "a flush that is charged": {
    file: "block/limits.ts",
    from: "request.type !== VIRTIO_BLK_T_WRITE_ZEROES) return NOT_LIMITED;",
    to: "request.type !== VIRTIO_BLK_T_WRITE_ZEROES) return 0;",
  },
  "a chain that is taken though a limit refuses it": {
    file: "block/limits.ts",
    from: "max<u64>(waitFor(sizeBucket), waitFor(countBucket)),",
    to: "waitFor(countBucket),",
  },
  "a leftover that is charged again": {
    file: "turn.ts",
    from: "if (areLimited && !isLeftover) {",
    to: "if (areLimited) {",
  },
  "a queue that is held back for longer than a limit wants": {
    file: "io/throttle.ts",
    from: "queue.throttledUntil = now + wait;",
    to: "queue.throttledUntil = now + wait * 4;",
  },
  "a hold that lasts longer than the wait that is told": {
    file: "io/throttle.ts",
    from: "queue.throttledUntil = now + wait;",
    to: "queue.throttledUntil = now + MOST_NS;",
  },
  "a wait for a limit that is not told": {
    file: "io/throttle.ts",
    from: "queue.throttledUntil = now + wait;\n  tell(wait);",
    to: "queue.throttledUntil = now + wait;",
  },
  "a status that is not logged": {
    file: "virtqueue/guest-memory.ts",
    from: "if (isLogging) logWritten(gpa, span);",
    to: "",
  },
  "a status that is logged before it is written": {
    file: "virtqueue/guest-memory.ts",
    from: `      // One byte is a status.
      if (span === 1) store<u8>(<usize>spanTarget, load<u8>(source));
      else memory.copy(<usize>spanTarget, source, span);
      if (isLogging) logWritten(gpa, span);`,
    to: `      if (isLogging) logWritten(gpa, span);
      if (span === 1) store<u8>(<usize>spanTarget, load<u8>(source));
      else memory.copy(<usize>spanTarget, source, span);`,
  },
  "what the host has written, and is not logged": {
    file: "virtqueue/guest-memory.ts",
    from: "if (isLogging) logGuestWrites();",
    to: "",
  },
  "data that are not logged": {
    file: "block/execute.ts",
    from: "if (isLogging && writesGuest(request)) logVectors(request, 0);",
    to: "",
  },
  "buffers of a chain that are not logged": {
    file: "chain-operation.ts",
    from: "if (isLogging) logVectors(operation, operation.readableCount);",
    to: "",
  },
  "a ring that is not logged": {
    file: "turn.ts",
    from: "if (isLogging && queue.state !== QUEUE_STOPPED) logRing(queue);",
    to: "",
  },
  "a page past the end of the log": {
    file: "virtqueue/dirty-log.ts",
    from: "if (page < PAGES) atomic.or",
    to: "atomic.or",
  },
  "a log that is gone, and written": {
    file: "index.ts",
    from: "  switchLogging(isOn);",
    to: "  if (isOn) switchLogging(isOn);",
  },
  "a write to a read-only disk": {
    file: "block/execute.ts",
    from: "return isReadOnly() ? VIRTIO_BLK_S_IOERR : startTransfer(request, request.outBytes);",
    to: "return startTransfer(request, request.outBytes);",
  },
};
