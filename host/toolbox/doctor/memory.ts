// Whether there is the memory that vringd works in: its own, and what it shares with guests.
import { reasonOf } from "../../errors.ts";
import { close } from "../../linux/libc.ts";
import { mapShared, PAGE_SIZE, unmap } from "../../linux/mapping.ts";
import { createMemfd, sealSize } from "../../linux/memfd.ts";
import { type Finding, ok, problem } from "./finding.ts";

export function memoryFindings(): Finding[] {
  return [memfd()];
}

/** As for an inflight region, whose size is sealed; and front-ends have guest memory in such files. */
function memfd(): Finding {
  try {
    const fd = createMemfd("doctor", PAGE_SIZE);
    try {
      sealSize(fd);
      unmap(mapShared(fd, 0n, PAGE_SIZE), PAGE_SIZE);
    } finally {
      close(fd);
    }
    return ok("memfd", "can be made, sealed and mapped");
  } catch (error) {
    return problem(
      "memfd",
      `can't be used: ${reasonOf(error)}`,
      "allow memfd_create, fcntl and mmap to this process",
    );
  }
}
