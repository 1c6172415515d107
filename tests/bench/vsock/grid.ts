// `npm run bench -- --grid vsock`: sockets between guest and host, by vringd-vsock and by rust-vmm's vhost-device-vsock, round by round:
// how fast, and how much processor time it takes of the back-end. Without a guest first, since a guest of emulated processors is slower
// than any back-end.
import { availableParallelism } from "node:os";
import { pinThisThread } from "../../support/affinity.ts";
import { QEMUS, qemuUnavailable } from "../../support/guest.ts";
import { describeMachine } from "../machine.ts";
import { type SocketBackEnd, type SocketContender, socketBackEnds } from "./contenders.ts";
import { InGuest } from "./in-guest.ts";
import { LOADS, type Load, type Sample, type Samples, tell } from "./loads.ts";
import { WithoutGuest } from "./without-guest.ts";

interface Options {
  rounds: number;
  seconds: number;
  peer?: string;
  pin: boolean;
  filter?: string;
}

interface Place {
  readonly contender: SocketContender;
  measure(load: Load, seconds: number): Sample | Promise<Sample>;
  stop(): Promise<void>;
}

export async function compareSockets(options: Options): Promise<void> {
  console.log(JSON.stringify(describeMachine()));
  const { backEnds, lack } = socketBackEnds(options.peer);
  if (lack) console.log(`left out: ${lack}`);
  await compareWithoutGuest(backEnds, options);
  const qemu = QEMUS.findLast((each) => qemuUnavailable(each) === undefined);
  if (qemu === undefined) console.log(`left out: ${qemuUnavailable(QEMUS[0])}`);
  else {
    const starts = backEnds.map((backEnd) => () => InGuest.start(qemu, backEnd));
    await compare(`Linux in QEMU of ${qemu.owner}`, starts, options);
  }
}

/** The driver and the program of the host have a core, and the back-ends another. */
async function compareWithoutGuest(backEnds: readonly SocketBackEnd[], options: Options): Promise<void> {
  const cores = Array.from({ length: availableParallelism() }, (_, core) => core);
  const [driverCore, ...others] = options.pin && cores.length > 1 ? cores : [];
  if (driverCore !== undefined) pinThisThread([driverCore]);
  const starts = backEnds.map((backEnd) => () => WithoutGuest.start(backEnd, others));
  await compare("a driver of ours", starts, options);
  if (driverCore !== undefined) pinThisThread(cores);
}

/** All at once, so that the rounds of each lie among those of the others. */
async function compare(
  title: string,
  starts: readonly (() => Promise<Place>)[],
  { rounds, seconds, filter = "" }: Options,
): Promise<void> {
  const loads = LOADS.filter(({ name }) => new RegExp(filter).test(`${title}: ${name}`));
  if (loads.length === 0) return;
  const places: Place[] = [];
  try {
    for (const start of starts) places.push(await start());
    const samples: Samples = new Map(loads.map((load) => [load, places.map(() => [])]));
    // One to warm up.
    for (let round = -1; round < rounds; round++)
      for (const load of loads)
        for (const [i, place] of places.entries()) {
          const taken = await place.measure(load, seconds);
          if (round >= 0) samples.get(load)![i]!.push(taken);
        }
    tell(
      title,
      places.map(({ contender }) => contender.name),
      samples,
    );
  } finally {
    for (const place of places) await place.stop();
  }
}
