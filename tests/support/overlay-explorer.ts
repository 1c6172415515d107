// An overlay under every order in which its storage may complete what it is asked, and dead at every point of each.
import assert from "node:assert/strict";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import { encodeSession, layoutOf, SESSION_POSITION } from "../../host/storage/overlay/format.ts";
import { encodeHeader } from "../../host/storage/overlay/header.ts";
import { OverlayDisk } from "../../host/storage/overlay/overlay-disk.ts";
import { ChangeHistory } from "./change-history.ts";
import { InstantStorage, OrderedStorage } from "./ordered-storage.ts";

const SECTOR = 512;
/** Three blocks, the last of them a short one. */
const SECTORS = 2 * 8 + 3;
const BASE = 1_000_000;
const byteLength = BigInt(SECTORS * SECTOR);
const layout = layoutOf(byteLength);

const BOOT = "first";
const NEXT_BOOT = "second";
/** Under which all was made that the scenario begins with. */
const FORMER_BOOT = "former";

export type Request =
  | { kind: "write" | "zeroes" | "discard"; first: number; count: number }
  | { kind: "flush" };

export interface Scenario {
  name: string;
  /** Each makes its requests one after the other. The first begins at once, the others at any time. */
  clients: readonly (readonly Request[])[];
  /** Blocks that the overlay has, stable, when it begins. */
  own?: readonly number[];
  /** The kernel was started anew since, and what the working map says means nothing. */
  isFormerKernel?: boolean;
  /** Reads of the base come in any order too. */
  hasSlowBase?: boolean;
  /** One write or hole of each run may fail, without having been done and after it. */
  hasFailure?: boolean;
}

export interface Totals {
  orders: number;
  deaths: number;
  states: number;
}

interface Step {
  /** What may be done, in words. */
  options: string[];
  chosen: number;
}

export class OverlayExplorer {
  readonly totals: Totals = { orders: 0, deaths: 0, states: 0 };
  private readonly seen = new Set<string>();
  private readonly lives = new Set<string>();

  /** Throws with the order and the death that show what is wrong. */
  async run(scenario: Scenario): Promise<void> {
    this.seen.clear();
    this.lives.clear();
    const contents = contentsOf(scenario);
    const steps: Step[] = [];
    do {
      const known = steps.length;
      try {
        await this.play(scenario, contents, steps, known);
      } catch (error) {
        const order = steps.map(({ options, chosen }, i) => `  ${i + 1}. ${options[chosen]}`).join("\n");
        const { message } = error as Error;
        throw new Error(`${scenario.name}: ${message}\nwhen these have ended, in this order:\n${order}`, {
          cause: error,
        });
      }
      this.totals.orders++;
    } while (nextOrder(steps));
  }

  /** Goes through the known steps and from there on by each first option, which it adds. */
  private async play(scenario: Scenario, contents: Uint8Array, steps: Step[], known: number): Promise<void> {
    const life = new Life(scenario, contents);
    let hasFailed = false;
    for (let i = 0; ; i++) {
      await life.settled();
      // What came before the last known step has been looked at in another order.
      if (i >= known) {
        if (this.isKnown(`${life.name()} ${hasFailed}`)) return;
        await this.dieHere(life);
      }
      const { pending } = life.storage;
      if (pending.length === 0) break;
      const failable = scenario.hasFailure && !hasFailed ? pending.filter(({ change }) => change) : [];
      steps[i] ??= { chosen: 0, options: optionsOf(pending, failable) };
      const { chosen } = steps[i]!;
      if (chosen < pending.length) life.storage.complete(chosen);
      else {
        hasFailed = true;
        const at = chosen - pending.length;
        life.storage.fail(pending.indexOf(failable[at >>> 1]!), at % 2 === 1);
      }
    }
    await life.finish();
  }

  /** What another order has led to already has the same future. */
  private isKnown(life: string): boolean {
    const { size } = this.lives;
    return this.lives.add(life).size === size;
  }

  private async dieHere({ storage, history }: Life): Promise<void> {
    this.totals.deaths++;
    for (const state of storage.statesOfKill()) {
      await this.check(state, BOOT, history.sinceCompletion(), "the process is killed");
    }
    for (const state of storage.statesOfPowerLoss()) {
      await this.check(state, NEXT_BOOT, history.sinceFlush(), "the machine dies");
    }
  }

  private async check(state: Uint8Array, bootId: string, allowed: number[][], death: string): Promise<void> {
    const key = `${bootId} ${sampleOf(state)} ${allowed.join(" ")}`;
    if (this.seen.has(key)) return;
    this.seen.add(key);
    this.totals.states++;
    const disk = await openOver(new InstantStorage(state), bootId);
    const found = await readAll(disk);
    found.forEach((value, sector) => {
      const isAllowed = allowed[sector]!.includes(value);
      assert.ok(
        isAllowed,
        `sector ${sector} holds ${value}, not ${allowed[sector]!.join(" or ")}, if ${death}`,
      );
    });
    // A change of one sector leaves all others as they are.
    const sector = 1 + (this.totals.states % (SECTORS - 2));
    await disk.write(BigInt(sector * SECTOR), [new Uint8Array(SECTOR)]);
    assert.deepEqual(await readAll(disk), found.with(sector, 0), `a sector was written after ${death}`);
  }
}

/** One life of an overlay and its clients. */
class Life {
  readonly storage: OrderedStorage;
  readonly history: ChangeHistory;
  private readonly failures: unknown[] = [];
  private disk: OverlayDisk | undefined;
  private unfinished: number;
  private isOver = false;
  /** How many of its requests each client has behind it. */
  private readonly progress: number[];

  constructor(
    private readonly scenario: Scenario,
    contents: Uint8Array,
  ) {
    this.storage = new OrderedStorage(contents, nameOf);
    this.history = new ChangeHistory(initialValues(scenario));
    this.unfinished = scenario.clients.length;
    this.progress = scenario.clients.map(() => 0);
    this.live().catch((error) => this.failures.push(error));
  }

  /** All that follows from what has ended happens in microtasks. */
  async settled(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.failures.length > 0) throw this.failures[0];
  }

  name(): string {
    return `${this.storage.name(sampleOf)} ${this.history.name()} ${this.progress}`;
  }

  /** Nothing is under way any more. */
  async finish(): Promise<void> {
    assert.equal(this.unfinished, 0, "clients wait, but for nothing");
    this.isOver = true;
    const allowed = this.history.sinceCompletion();
    (await readAll(this.disk!)).forEach((value, sector) => {
      assert.ok(allowed[sector]!.includes(value), `sector ${sector} reads as ${value}`);
    });
  }

  private async live(): Promise<void> {
    this.disk = await openOver(this.storage, BOOT, (sector) => this.baseRead(sector));
    await Promise.all(this.scenario.clients.map((requests, client) => this.serve(requests, client)));
  }

  private async serve(requests: readonly Request[], client: number): Promise<void> {
    if (client > 0) await this.storage.begin(`client ${client} begins`);
    for (const [i, request] of requests.entries()) {
      const value = request.kind === "write" ? 100 * (client + 1) + i : 0;
      const end = this.begin(request, value);
      const isDone = await this.request(request, value).then(
        () => true,
        (error) => {
          if (this.scenario.hasFailure) return false;
          throw error;
        },
      );
      end(isDone);
      this.progress[client]!++;
    }
    this.unfinished--;
  }

  private async baseRead(sector: number): Promise<void> {
    if (this.scenario.hasSlowBase && !this.isOver) await this.storage.begin(`read of the base at ${sector}`);
  }

  private begin(request: Request, value: number): (isDone: boolean) => void {
    if (request.kind === "flush") return this.history.beginFlush();
    const { kind, first, count } = request;
    return this.history.begin(first, new Array(count).fill(value), kind !== "discard");
  }

  private request(request: Request, value: number): Promise<void> {
    const { kind } = request;
    if (kind === "flush") return this.disk!.flush();
    const offset = BigInt(request.first * SECTOR);
    const bytes = request.count * SECTOR;
    if (kind === "zeroes") return this.disk!.writeZeroes(offset, BigInt(bytes));
    if (kind === "discard") return this.disk!.discard(offset, BigInt(bytes));
    return this.disk!.write(offset, [filled(bytes, value)]);
  }
}

/** The next order that differs: false if there is none. */
function nextOrder(steps: Step[]): boolean {
  for (let last = steps.pop(); last !== undefined; last = steps.pop()) {
    if (last.chosen + 1 === last.options.length) continue;
    steps.push({ ...last, chosen: last.chosen + 1 });
    return true;
  }
  return false;
}

function optionsOf(pending: readonly { name: string }[], failable: readonly { name: string }[]): string[] {
  return [
    ...pending.map(({ name }) => name),
    ...failable.flatMap(({ name }) => [`${name}, which fails`, `${name}, which fails when it is done`]),
  ];
}

function openOver(
  storage: OrderedStorage | InstantStorage,
  bootId: string,
  wait?: (sector: number) => Promise<void>,
): Promise<OverlayDisk> {
  return OverlayDisk.over({ base: baseOf(wait), storage, bootId, readOnly: false });
}

/** Every sector of the base has a number of its own. */
function baseOf(wait?: (sector: number) => Promise<void>): BlockDisk {
  return {
    byteLength,
    readOnly: true,
    read: async (offset, buffers) => {
      await wait?.(Number(offset) / SECTOR);
      let at = Number(offset);
      for (const buffer of buffers) {
        for (let i = 0; i < buffer.length; i += SECTOR, at += SECTOR) {
          buffer.set(filled(SECTOR, BASE + at / SECTOR), i);
        }
      }
    },
  };
}

function contentsOf({ own = [], isFormerKernel = false }: Scenario): Uint8Array {
  const contents = new Uint8Array(layout.fileBytes);
  contents.set(encodeHeader({ byteLength, baseChangedNs: 0n }));
  contents.set(encodeSession(isFormerKernel ? FORMER_BOOT : BOOT), SESSION_POSITION);
  for (const block of own) {
    contents[layout.durableMap]! |= 1 << block;
    contents[layout.workingMap]! |= 1 << block;
    const bytes = filled(8 * SECTOR, ownValue(block));
    const start = layout.blocks + block * 8 * SECTOR;
    contents.set(bytes.subarray(0, contents.length - start), start);
  }
  if (isFormerKernel) contents[layout.workingMap] = 0xff;
  return contents;
}

function initialValues({ own = [] }: Scenario): number[] {
  return Array.from({ length: SECTORS }, (_, sector) => {
    const block = sector >>> 3;
    return own.includes(block) ? ownValue(block) : BASE + sector;
  });
}

function ownValue(block: number): number {
  return 10 + block;
}

function filled(bytes: number, value: number): Uint8Array {
  return new Uint8Array(new Uint32Array(bytes / 4).fill(value).buffer);
}

function nameOf(position: number): string {
  if (position >= layout.blocks) return `sector ${(position - layout.blocks) / SECTOR}`;
  if (position >= layout.durableMap) return "the durable map";
  if (position >= layout.workingMap) return "the working map";
  return "the session";
}

/** The number that each sector holds as a whole. */
async function readAll(disk: OverlayDisk): Promise<number[]> {
  const bytes = new Uint8Array(SECTORS * SECTOR);
  await disk.read(0n, [bytes]);
  const words = new Uint32Array(bytes.buffer);
  return Array.from({ length: SECTORS }, (_, sector) => {
    const start = (sector * SECTOR) / 4;
    const value = words[start]!;
    for (let at = start; at < start + SECTOR / 4; at++) {
      assert.equal(words[at], value, `sector ${sector} is a mixture`);
    }
    return value;
  });
}

/** What tells states from each other: sectors are changed as a whole, and of the maps the first bytes are in use. */
export function sampleOf(bytes: Uint8Array): string {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  let sample = "";
  for (let at = 0; at < words.length; at += SECTOR / 4) sample += `${words[at]},`;
  return sample;
}
