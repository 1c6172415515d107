// What comes before a successor can serve, whether it is for now or for later: it loads, compiles, and opens the devices.
import type { Service } from "../backend/service.ts";
import type { ServiceOffer } from "../backend/service-state.ts";
import type { Descriptor } from "../linux/descriptor.ts";
import type { Log } from "../process/log.ts";
import { type Greeting, type Offer, type Prepared, STATE_VERSION } from "./messages.ts";
import type { Successor } from "./successor.ts";

/** On a busy machine. */
const PREPARE_MS = 60_000;

const UNPREPARED = `was not ready to take over after ${PREPARE_MS / 1000} s`;

/** A process in whose place another is to serve. */
export interface ReplacedProcess {
  /** The program's name. */
  readonly name: string;
  /** Those that it serves by now. */
  services(): readonly Service[];
  /** How each was asked for, where they come and go. */
  members(): readonly unknown[] | undefined;
  /** Where others look from outside, by address. */
  sockets(): Record<string, Descriptor>;
  logLevel(): string;
  readonly log: Log;
}

/** Resolves when it is ready. Rejects with a RangeError, a sentence that says why it isn't. */
export async function prepare(
  successor: Successor,
  { name, services, members, sockets, logLevel }: ReplacedProcess,
  offerOf: (service: Service) => ServiceOffer,
  standsBy = false,
): Promise<Greeting> {
  const greeting = await successor.receive<Greeting>(PREPARE_MS, UNPREPARED);
  const { program, stateVersion, release } = greeting;
  if (program !== name) throw new RangeError(`that is ${program}, not ${name}`);
  if (stateVersion !== STATE_VERSION)
    throw new RangeError(
      `${program} ${release} hands over by version ${stateVersion} of the state, this process by ${STATE_VERSION}: end this one and start the other`,
    );
  const offer: Offer = {
    pid: process.pid,
    standsBy,
    logLevel: logLevel(),
    services: services().map(offerOf),
    members: members(),
    sockets: sockets(),
  };
  successor.tell(offer);
  await successor.receive<Prepared>(PREPARE_MS, UNPREPARED);
  return greeting;
}
