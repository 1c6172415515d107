// The state of the page: what was done, the machine it led to, and what the last action changed.
import type { RingConfig } from "../config.ts";
import { type Field, readField } from "../fields.ts";
import type { Wish } from "../guest.ts";
import { Machine } from "../machine.ts";
import { nextAction, runAction } from "../next-action.ts";
import { isScenario, parseScenario, play, type Scenario, scenarioHash } from "../scenario.ts";
import type { CoreModules } from "../traced-core.ts";

const RUN_EVERY_MS = 700;

export class App {
  scenario: Scenario;
  machine: Machine;
  /** Fields that the last action changed, with what they were before. */
  changed = new Map<string, number>();
  changedSectors = new Set<number>();
  /** What the form would add. */
  wish: Wish = { kind: "write", sector: 5, sectorCount: 1, isIndirect: false };
  private timer: number | undefined;
  private readonly listeners: (() => void)[] = [];
  private readonly beginners: (() => void)[] = [];

  constructor(
    private readonly modules: CoreModules,
    private readonly memory: WebAssembly.Memory,
    hash: string,
  ) {
    this.scenario = parseScenario(hash);
    this.machine = this.replay();
  }

  get isRunning(): boolean {
    return this.timer !== undefined;
  }

  /** To be called after each change. */
  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** To be called when another scenario begins. */
  onBegin(listener: () => void): void {
    this.beginners.push(listener);
  }

  /** Does one thing, by its code. False if that can't be done now. */
  act(code: string): boolean {
    const before = this.readAll();
    const sectors = this.machine.disk.bytes.slice();
    if (!play(this.machine, code)) return false;
    this.scenario.actions.push(code);
    this.compare(before);
    this.compareDisk(sectors);
    this.refresh();
    return true;
  }

  next(): void {
    this.act(nextAction(this.machine, this.wish).code);
  }

  /** Takes the last `count` actions back: plays all others again. */
  back(count = 1): void {
    if (this.scenario.actions.length === 0) return;
    this.scenario.actions.splice(-count, count);
    this.machine = this.replay();
    this.refresh();
  }

  begin(config: RingConfig): void {
    this.pause();
    for (const listener of this.beginners) listener();
    this.scenario = { config, actions: [] };
    this.machine = this.replay();
    this.refresh();
  }

  load(hash: string): void {
    if (!isScenario(hash) || hash === scenarioHash(this.scenario)) return;
    this.pause();
    for (const listener of this.beginners) listener();
    this.scenario = parseScenario(hash);
    this.machine = this.replay();
    this.refresh();
  }

  toggleRun(): void {
    if (this.isRunning) this.pause();
    else
      this.timer = window.setInterval(
        () => this.act(runAction(this.machine, Math.random).code),
        RUN_EVERY_MS,
      );
    this.refresh();
  }

  pause(): void {
    window.clearInterval(this.timer);
    this.timer = undefined;
  }

  value(field: Field): number {
    return readField(this.machine.view, field);
  }

  field(name: string): Field {
    return this.machine.fields.find((field) => field.name === name)!;
  }

  private replay(): Machine {
    const machine = new Machine(this.modules, this.memory, this.scenario.config);
    this.machine = machine;
    this.changed.clear();
    this.changedSectors.clear();
    // What can't be done where it stands is dropped: an address may have been written by hand.
    this.scenario.actions = this.scenario.actions.filter((code, i, { length }) => {
      const before = i === length - 1 ? this.readAll() : undefined;
      const isDone = play(machine, code);
      if (before !== undefined && isDone) this.compare(before);
      return isDone;
    });
    return machine;
  }

  private readAll(): number[] {
    return this.machine.fields.map((field) => this.value(field));
  }

  private compare(before: number[]): void {
    const entries = this.machine.fields.map((field, i): [string, number, number] => [
      field.name,
      before[i]!,
      this.value(field),
    ]);
    this.changed = new Map(entries.filter(([, was, is]) => was !== is).map(([name, was]) => [name, was]));
  }

  private compareDisk(before: Uint8Array): void {
    const { bytes } = this.machine.disk;
    this.changedSectors.clear();
    for (let at = 0; at < bytes.length; at++) {
      if (bytes[at] !== before[at]) this.changedSectors.add(Math.floor(at / 512));
    }
  }

  refresh(): void {
    window.history.replaceState(null, "", scenarioHash(this.scenario));
    for (const listener of this.listeners) listener();
  }
}
