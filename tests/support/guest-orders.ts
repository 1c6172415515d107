// Guests that do what each line on their console says, one after the other.
import type { GuestProcess } from "./guest-process.ts";

/** A script's end: each line is a command for the shell, until "end". */
export const doAsTold = `
report READY yes
while read -r line && [ "$line" != end ]; do eval "$line"; done
`;

/** The same beside fio, which writes and verifies the disk's first 8 MiB all the while. Needs the program fio. */
export const ordersUnderLoad = `
(while [ ! -e /run/end ]; do
  fio --name=job --filename="$DISK" --size=8M --bs=4k --bsrange=4k-64k --rw=randwrite --ioengine=libaio --iodepth=16 --direct=1 \
    --refill_buffers=1 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --minimal > fio.out 2>&1 ||
    { cat fio.out; touch /run/failed; break; }
done) &
${doAsTold}
touch /run/end
wait
[ ! -e /run/failed ]
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
