// The core's faults in words.
import {
  FAULT_ADDRESS,
  FAULT_AVAIL_RAN_AHEAD,
  FAULT_CHAIN_TOO_LONG,
  FAULT_HEAD_PAST_QUEUE,
  FAULT_INDIRECT_LENGTH,
  FAULT_INFLIGHT_REGION,
  FAULT_KICK_FD,
  FAULT_NESTED_INDIRECT,
  FAULT_NEXT_PAST_TABLE,
  FAULT_READABLE_AFTER_WRITABLE,
  FAULT_TOO_MANY_IN_FLIGHT,
  FAULT_TOO_SCATTERED,
} from "../../assembly/abi/faults.ts";

const words = new Map([
  [FAULT_AVAIL_RAN_AHEAD, "the avail index is more than the queue size ahead"],
  [FAULT_HEAD_PAST_QUEUE, "a head lies past the end of the queue"],
  [FAULT_NEXT_PAST_TABLE, "a descriptor's next lies past the end of its table"],
  [FAULT_CHAIN_TOO_LONG, "a descriptor chain is too long or runs in a circle"],
  [FAULT_READABLE_AFTER_WRITABLE, "a readable descriptor follows a writable one"],
  [FAULT_NESTED_INDIRECT, "an indirect descriptor stands where none may be"],
  [FAULT_INDIRECT_LENGTH, "an indirect table's length is not a multiple of 16, or 0"],
  [FAULT_ADDRESS, "a descriptor points outside guest memory"],
  [FAULT_TOO_MANY_IN_FLIGHT, "more descriptors are available than the queue has"],
  [FAULT_KICK_FD, "the kick descriptor can't be read"],
  [FAULT_TOO_SCATTERED, "a chain's headers are scattered over more memory than can be mapped at a time"],
  [FAULT_INFLIGHT_REGION, "the inflight region does not fit the ring; a reset of the guest makes a new one"],
]);

/** Why a ring broke, for a log line. */
export function describeFault(fault: number): string {
  return words.get(fault) ?? `fault ${fault}`;
}
