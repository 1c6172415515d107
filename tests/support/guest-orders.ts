// Guests that do what each line on their console says, one after the other.
import type { GuestProcess } from "./guest-process.ts";

/** A script's end: each line is a command for the shell, until "end". */
export const doAsTold = `
report READY yes
while read -r line && [ "$line" != end ]; do eval "$line"; done
`;

/** On a machine that has much else to do. */
const ANSWER_MS = 600_000;
let questions = 0;

/** What a command prints in the guest, in one line. */
export function askGuest(guest: GuestProcess, command: string): Promise<string> {
  const key = `ANSWER${++questions}`;
  // Its status is part of the answer, if it is asked for.
  guest.send(`report ${key} "$( (${command}) | tr '\\n' ' ')" || true`);
  return guest.waitForReport(key, ANSWER_MS);
}

/** Has the guest do something, and waits until it has. */
export async function tellGuest(guest: GuestProcess, command: string): Promise<void> {
  const key = `DONE${++questions}`;
  guest.send(`${command}; report ${key} yes`);
  await guest.waitForReport(key, ANSWER_MS);
}
