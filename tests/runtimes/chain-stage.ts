// A queue whose chains are a device's own: answered, held back, parked, and found by a successor who must fail them.
import { CHAIN_PARKED } from "../../assembly/abi/chain.ts";
import {
  QUEUE_F_CHAINS,
  QUEUE_F_CREDIT,
  QUEUE_F_RECOVER_FAIL,
  WASM_PAGE_SIZE,
  WORKER_STRIDE,
  WORKERS_PTR,
} from "../../assembly/abi/index.ts";
import { type Chain, type Core, Embedder, type GuestRam } from "./embedder.ts";
import { Guest, type RingFormat } from "./guest.ts";

const EIO = 5;
const WORDS = ["first", "second", "third"];

export class ChainStage {
  readonly lines: string[] = [];
  private readonly guest: Guest;
  private device: Embedder;
  /** What came to the device since this was last asked. */
  private arrived: string[] = [];

  constructor(
    private readonly instantiate: () => Core,
    private readonly memory: { buffer: ArrayBuffer },
    private readonly ram: GuestRam,
    private readonly inflightPtr: number,
    private readonly format: RingFormat,
  ) {
    this.guest = new Guest(memory, ram, format, QUEUE_F_CHAINS | QUEUE_F_CREDIT | QUEUE_F_RECOVER_FAIL);
    new Uint8Array(memory.buffer, inflightPtr, WASM_PAGE_SIZE).fill(0);
    this.device = this.boot();
    this.device.start(this.guest.ring, inflightPtr);
  }

  answer(): void {
    this.device.addCredit(1);
    this.send("chains");
    this.device.run();
    this.tell(`a chain: ${this.cameTo()}, used: ${this.used()}`);
  }

  /** Three are there, and the device has asked for two, one after the other. */
  giveCredit(): void {
    for (const word of WORDS) this.send(word);
    this.device.run();
    this.tell(`without credit: ${this.cameTo()}`);
    for (let i = 0; i < 2; i++) {
      this.device.addCredit(1);
      this.device.run();
      this.tell(`credit for one: ${this.cameTo()}`);
    }
    this.tell(`used: ${this.used()}`);
  }

  /** The third is taken, and let go of when the ring stops. */
  park(): void {
    this.device.isHolding = true;
    this.device.addCredit(1);
    this.device.run();
    const park = this.device.onChain;
    this.device.onChain = () => CHAIN_PARKED;
    this.device.release();
    const base = this.device.stop();
    this.tell(`parked: base 0x${base.toString(16)}, used: ${this.used()}`);
    this.device.onChain = park;
    this.device.start({ ...this.guest.ring, base }, this.inflightPtr);
    this.device.addCredit(1);
    this.device.run();
    this.device.release();
    this.device.run();
    this.tell(`started again: ${this.cameTo()}, used: ${this.used()}`);
  }

  /** One is at the device when that dies, and one in the ring. */
  crash(): void {
    for (const word of ["begun", "new"]) this.send(word);
    this.device.addCredit(1);
    this.device.run();
    this.device = this.boot();
    this.device.start(this.guest.ring, this.inflightPtr);
    this.device.addCredit(2);
    this.device.run();
    this.tell(`the successor: ${this.cameTo()}, used: ${this.used()}`);
    this.tell(`chains stopped, base 0x${this.device.stop().toString(16)}`);
  }

  private boot(): Embedder {
    new Uint8Array(this.memory.buffer, WORKERS_PTR, WORKER_STRIDE).fill(0);
    const disk = { bytes: new Uint8Array(512), flushes: 0 };
    const device = new Embedder(this.instantiate(), this.memory, this.ram, disk);
    device.onChain = (chain) => this.serve(chain);
    return device;
  }

  /** Gives back what it gets, from its end. */
  private serve({ readable, writable, flags }: Chain): number {
    const bytes = readable.flatMap((part) => [...part]);
    this.arrived.push(`${textOf(bytes)} (flags ${flags})`);
    if (flags !== 0) return -EIO;
    let left = bytes.reverse();
    for (const part of writable) {
      part.set(left.slice(0, part.length));
      left = left.slice(part.length);
    }
    return bytes.length;
  }

  private send(word: string): void {
    this.guest.send(Uint8Array.from(word, (letter) => letter.charCodeAt(0)));
  }

  private cameTo(): string {
    return this.arrived.splice(0).join(", ") || "none";
  }

  private used(): string {
    const used = this.guest.takeUsed();
    const answers = used.map(({ slot, writtenBytes }) => textOf(this.guest.answer(slot, writtenBytes)));
    return answers.map((answer) => answer || "nothing").join(", ") || "none";
  }

  private tell(line: string): void {
    this.lines.push(`${this.format}: ${line}`);
  }
}

function textOf(bytes: Iterable<number>): string {
  return String.fromCharCode(...bytes);
}
