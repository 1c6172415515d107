// What every runtime must do with the core alike: a disk in use, and one that outlives its device; and a queue of chains.
import { WASM_PAGE_SIZE, WORKER_STRIDE, WORKERS_PTR } from "../../assembly/abi/index.ts";
import { ChainStage } from "./chain-stage.ts";
import { type Core, type Disk, Embedder, FIRST_FREE_PTR, type GuestRam } from "./embedder.ts";
import { Guest, RAM_SIZE, type RingFormat } from "./guest.ts";

const DISK_SIZE = 1 << 20;
const BLOCK = 4096;
const SECTORS_PER_BLOCK = 8;

/** Guest memory's address in the guest is not its place in linear memory, and can't be taken for it. */
const RAM: GuestRam = { gpa: 0x1_0000_0000n, ptr: FIRST_FREE_PTR, byteLength: RAM_SIZE };
const INFLIGHT_PTR = FIRST_FREE_PTR + RAM_SIZE;

export const MEMORY_PAGES = Math.ceil((INFLIGHT_PTR + WASM_PAGE_SIZE) / WASM_PAGE_SIZE);

export type Memory = { buffer: ArrayBuffer };

/** Returns what happened, a line each. `instantiate` gives a new instance of the core over the memory. */
export function play(instantiate: () => Core, memory: Memory): string[] {
  return (["split", "packed"] as const).flatMap((format) => {
    const stage = new Stage(instantiate, memory, format);
    stage.useDisk();
    stage.crashAndRecover();
    stage.stop();
    const chains = new ChainStage(instantiate, memory, RAM, INFLIGHT_PTR, format);
    chains.answer();
    chains.giveCredit();
    chains.park();
    chains.crash();
    return [...stage.lines, ...chains.lines];
  });
}

class Stage {
  readonly lines: string[] = [];
  private readonly disk: Disk = { bytes: new Uint8Array(DISK_SIZE), flushes: 0 };
  private readonly guest: Guest;
  private device: Embedder;
  private calls = 0;

  constructor(
    private readonly instantiate: () => Core,
    private readonly memory: Memory,
    private readonly format: RingFormat,
  ) {
    this.guest = new Guest(memory, RAM, format);
    new Uint8Array(memory.buffer, INFLIGHT_PTR, WASM_PAGE_SIZE).fill(0);
    this.device = this.boot();
  }

  useDisk(): void {
    const { guest, device } = this;
    const data = pattern(1);
    const write = guest.write(SECTORS_PER_BLOCK, data);
    device.run();
    this.tell(`write: ${this.outcomeOf(write)}, ${same(this.onDisk(1), data)} on the disk`);

    const read = guest.read(SECTORS_PER_BLOCK, BLOCK);
    device.run();
    this.tell(`read: ${this.outcomeOf(read)}, ${same(guest.data(read, BLOCK), data)} in the guest`);

    const flush = guest.flush();
    device.run();
    this.tell(`flush: ${this.outcomeOf(flush)}, ${this.disk.flushes} reached the disk`);

    const outside = guest.read(DISK_SIZE / 512, BLOCK);
    device.run();
    this.tell(`read past the end: ${this.outcomeOf(outside)}`);
    this.tell(`calls: ${this.calls}`);
  }

  /** Four writes, of which the third is finished, when the device goes. */
  crashAndRecover(): void {
    const { guest } = this;
    this.device.isHolding = true;
    const slots = [2, 3, 4, 5].map((block) => guest.write(block * SECTORS_PER_BLOCK, pattern(block)));
    this.device.run();
    this.device.release(2);
    this.device.run();
    this.tell(`before the crash: ${this.namesOf(guest.takeUsed(), slots)} done`);

    this.device = this.boot();
    this.device.isHolding = true;
    this.device.run();
    const again = this.device.held.map(({ offset }) => offset / BLOCK);
    this.tell(`the successor writes blocks ${again.join(", ")} again`);
    while (this.device.held.length > 0) this.device.release();
    this.device.run();
    this.tell(`after the crash: ${this.namesOf(guest.takeUsed(), slots)} done`);
    const matches = [2, 3, 4, 5].map((block) => same(this.onDisk(block), pattern(block)));
    this.tell(`blocks 2 to 5: ${matches.join(", ")}`);

    this.device = this.boot();
    this.device.isHolding = true;
    this.device.run();
    this.tell(`another successor finds ${this.device.held.length} in flight`);
    this.device.isHolding = false;
  }

  stop(): void {
    this.tell(`stopped, base 0x${this.device.stop().toString(16)}`);
  }

  /** A device that knows nothing but what lies in guest memory, in the inflight region and on the disk. */
  private boot(): Embedder {
    new Uint8Array(this.memory.buffer, WORKERS_PTR, WORKER_STRIDE).fill(0);
    const device = new Embedder(this.instantiate(), this.memory, RAM, this.disk);
    device.onCall = () => {
      this.calls++;
    };
    // The base is that of a new ring: after a crash, the inflight region knows better.
    device.start(this.guest.ring, INFLIGHT_PTR);
    return device;
  }

  private outcomeOf(slot: number): string {
    const used = this.guest.takeUsed();
    if (used.length !== 1 || used[0]?.slot !== slot) throw new Error(`used: ${JSON.stringify(used)}`);
    return `status ${this.guest.status(slot)}, ${used[0].writtenBytes} bytes written`;
  }

  private namesOf(used: { slot: number }[], slots: number[]): string {
    return used.map(({ slot }) => `write ${slots.indexOf(slot) + 1}`).join(", ");
  }

  private onDisk(block: number): Uint8Array {
    return this.disk.bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
  }

  private tell(line: string): void {
    this.lines.push(`${this.format}: ${line}`);
  }
}

function pattern(seed: number): Uint8Array {
  return Uint8Array.from({ length: BLOCK }, (_, i) => (i * 7 + seed) & 0xff);
}

function same(one: Uint8Array, other: Uint8Array): string {
  return one.every((byte, i) => byte === other[i]) ? "the same" : "other bytes";
}
