// What was done, as a list of short codes: played again it leads to the same state, so one can go back and share it.
//
//   r3  w5x2  f  d8   adds a read, write, flush or discard of a sector, or of two; ir3: with an indirect table
//   k  s  u           kicks; steps the core; takes back what is used
//   c0  h0  e0        the kernel does, half does or fails its operation number 0
//   x  x5  v          the core dies, now or before store 5 of its next step; another takes over
//   bhead  z          the driver breaks the ring; the device is reset
import { FIRST_CONFIG, RING_SIZES, type RingConfig } from "./config.ts";
import type { Mischief } from "./demo-ring.ts";
import { MISCHIEF } from "./driver-story.ts";
import type { RequestKind, Wish } from "./guest.ts";
import type { Ending } from "./kernel.ts";
import type { Machine } from "./machine.ts";
import { DISK_SECTORS } from "./memory-map.ts";

export interface Scenario {
  config: RingConfig;
  actions: string[];
}

/** As many actions as an address carries. */
const ACTIONS_MAX = 500;

const KINDS: Record<string, RequestKind> = { r: "read", w: "write", f: "flush", d: "discard" };
const ENDINGS: Record<string, Ending> = { c: "done", h: "short", e: "failed" };

const WISH = /^(i?)(?:([rwd])(\d{1,2})(x2)?|(f))$/;

export function wishCode({ kind, sector, sectorCount, isIndirect }: Wish): string {
  const indirect = isIndirect ? "i" : "";
  return kind === "flush" ? `${indirect}f` : `${indirect}${kind[0]}${sector}${sectorCount === 2 ? "x2" : ""}`;
}

export function endingCode(ending: Ending, index: number): string {
  return `${Object.keys(ENDINGS).find((code) => ENDINGS[code] === ending)}${index}`;
}

export function parseWish(code: string): Wish | undefined {
  const match = WISH.exec(code);
  if (match === null) return undefined;
  const [, indirect, letter = "f", digits = "0", two] = match;
  const sectorCount = two === undefined ? 1 : 2;
  const sector = Number(digits);
  if (sector + sectorCount > DISK_SECTORS) return undefined;
  return { kind: KINDS[letter]!, sector, sectorCount, isIndirect: indirect === "i" };
}

/** Does what a code says. False if that can't be done now, or is no code. */
export function play(machine: Machine, code: string): boolean {
  const wish = parseWish(code);
  if (wish !== undefined) return when(machine.canAdd(wish), () => machine.add(wish));
  const numbered = /^([chex])(\d{1,3})$/.exec(code);
  if (numbered !== null) return playNumbered(machine, numbered[1]!, Number(numbered[2]));
  if (code.startsWith("b")) return playMischief(machine, code.slice(1));
  return playPlain(machine, code);
}

function playNumbered(machine: Machine, letter: string, index: number): boolean {
  if (letter === "x") {
    return when(!machine.isCrashed && index <= machine.rehearse().length, () => machine.crash(index));
  }
  const operation = machine.kernel.operations[index];
  const ending = ENDINGS[letter];
  if (operation === undefined || ending === undefined) return false;
  const isPossible = ending !== "short" || machine.kernel.canBeShort(operation);
  return when(isPossible, () => machine.complete(operation, ending));
}

function playMischief(machine: Machine, name: string): boolean {
  const isKnown = Object.hasOwn(MISCHIEF, name) && !(name === "head" && machine.config.isPacked);
  return when(isKnown && !machine.isBroken, () => machine.breakRing(name as Mischief));
}

function playPlain(machine: Machine, code: string): boolean {
  switch (code) {
    case "k":
      return when(machine.guest.ring.owesKick && !machine.isBroken, () => machine.kick());
    case "s":
      return when(!machine.isCrashed, () => machine.step());
    case "u":
      return when(!machine.isBroken, () => machine.takeUsed());
    case "x":
      return when(!machine.isCrashed, () => machine.crash());
    case "v":
      return when(machine.isCrashed, () => machine.recover());
    case "z":
      return when(true, () => machine.reset());
    default:
      return false;
  }
}

function when(isPossible: boolean, act: () => void): boolean {
  if (isPossible) act();
  return isPossible;
}

/** For the address of the page: "#split,8,events,r3.k.s". */
export function scenarioHash({ config, actions }: Scenario): string {
  const { isPacked, size, hasEventIdx } = config;
  const shape = [isPacked ? "packed" : "split", size, hasEventIdx ? "events" : "flags"].join(",");
  return actions.length > 0 && actions.length <= ACTIONS_MAX ? `#${shape},${actions.join(".")}` : `#${shape}`;
}

/** An address may also name a place of the page. */
export function isScenario(hash: string): boolean {
  return /^#(split|packed)\b/.test(hash);
}

/** What is not understood is left out. */
export function parseScenario(hash: string): Scenario {
  const [kind, size, events, actions = ""] = hash.replace(/^#/, "").split(",");
  const isSize = RING_SIZES.includes(Number(size));
  return {
    config: {
      isPacked: kind === "packed",
      size: isSize ? Number(size) : FIRST_CONFIG.size,
      hasEventIdx: events !== "flags",
    },
    actions: actions
      .split(".")
      .filter((code) => code !== "")
      .slice(0, ACTIONS_MAX),
  };
}
