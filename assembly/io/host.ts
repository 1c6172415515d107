// Between host and core, whatever the device is: what the host says of itself in the device block, and what it is told after a turn.

import {
  DEVICE_LIMITED,
  DEVICE_MEMORY_HOST_ADDRESS,
  DEVICE_TURN_REQUESTS,
  TURN_REQUESTS_MAX,
} from "../abi/device-block.ts";
import { DEVICE_PTR } from "../abi/memory.ts";

/** STEP_*: what this turn has to tell the host so far. */
export let told: u32 = 0;

/** Whether there is more to do, so that the next turn is to come without waiting. */
export let isTurnDue: bool = false;

/** Whether the device has limits, as this turn found: a load a turn is all that they cost where there are none. */
export let areLimited: bool = false;

export function beginTelling(): void {
  told = 0;
  isTurnDue = false;
  areLimited = atomic.load<u32>(DEVICE_PTR, DEVICE_LIMITED) !== 0;
}

export function tellHost(news: u32): void {
  told |= news;
}

export function askForTurn(): void {
  isTurnDue = true;
}

/** Where linear memory begins in the host's address space. */
export function memoryHostAddress(): u64 {
  return load<u64>(DEVICE_PTR, DEVICE_MEMORY_HOST_ADDRESS);
}

/** What is taken from one queue in one turn, and so submitted at a time, at the most. */
export function turnRequests(): u32 {
  const wanted = load<u32>(DEVICE_PTR, DEVICE_TURN_REQUESTS);
  return wanted === 0 ? TURN_REQUESTS_MAX : min<u32>(wanted, TURN_REQUESTS_MAX);
}
