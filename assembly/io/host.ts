// What the host says of itself in the device block, whatever the device is: where linear memory lies, and how long a turn is.

import {
  DEVICE_MEMORY_HOST_ADDRESS,
  DEVICE_PTR,
  DEVICE_TURN_REQUESTS,
  TURN_REQUESTS_MAX,
} from "../abi/layout.ts";

export function memoryHostAddress(): u64 {
  return load<u64>(DEVICE_PTR, DEVICE_MEMORY_HOST_ADDRESS);
}

/** What is taken from one queue in one turn, and so submitted at a time, at the most. */
export function turnRequests(): u32 {
  const wanted = load<u32>(DEVICE_PTR, DEVICE_TURN_REQUESTS);
  return wanted === 0 ? TURN_REQUESTS_MAX : min<u32>(wanted, TURN_REQUESTS_MAX);
}
