// Guest memory that no window shows: after each turn the host shows one queue what its chain needs, until that chain has been
// read. Then comes the next queue that waits.

import { COPIES_MAX, WINDOWS_MAX } from "../abi/guest-memory.ts";
import { allowCopies, dropCopies, missedGpa } from "./guest-memory.ts";

/** Windows and copies that one chain gets in a row: once there are as many, the first of them are gone. */
const GRANTS_MAX: u32 = WINDOWS_MAX + COPIES_MAX;
const NOBODY: u32 = u32.MAX_VALUE;

let queueCount: u32 = 0;
/** The queue that was served last, and how often in a row for the chain that it reads. */
export let holder: u32 = 0;
let grants: u32 = 0;
/** Who is to be served after this turn. */
let claimant: u32 = NOBODY;

/** What the host is to show. */
export let wantedGpa: u64 = 0;

export function openClaims(queues: u32): void {
  queueCount = queues;
  holder = 0;
  grants = 0;
}

export function beginClaims(): void {
  claimant = NOBODY;
}

/** A queue is about to read a chain: copies are only for the one that they were made for. */
export function beginReading(queue: u32): void {
  allowCopies(grants > 0 && queue === holder);
}

/** The chain has been read to its end, or is found to be broken. */
export function endReading(queue: u32): void {
  if (queue === holder) giveUp();
}

/** The chain that the queue reads has missed. */
export function claimWindow(queue: u32): void {
  if (claimant !== NOBODY && rank(queue) >= rank(claimant)) return;
  claimant = queue;
  wantedGpa = missedGpa;
}

/** Serves one claim of this turn: holder says whose. False if there is none. */
export function grantClaim(): bool {
  if (claimant !== holder) giveUp();
  if (claimant === NOBODY) return false;
  holder = claimant;
  grants++;
  return true;
}

/** Whether the chain that was served needs more than can be shown at a time: it would ask for ever. */
export function isInsatiable(): bool {
  return grants > GRANTS_MAX;
}

/** First the holder, for as long as it reads one chain; then those behind it in turn, so that none waits for ever. */
function rank(queue: u32): u32 {
  const distance = (queue + queueCount - holder) % queueCount;
  return distance === 0 && grants === 0 ? queueCount : distance;
}

function giveUp(): void {
  if (grants === 0) return;
  grants = 0;
  dropCopies();
}
