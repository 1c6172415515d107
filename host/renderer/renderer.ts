// The renderer as its device has it: a process of its own, since what draws is C code that may end it or never come back. It is asked one
// thing after the other; when it ends, whoever waits is told, and one sentence says why.
import { type ChildProcess, spawn } from "node:child_process";
import { reasonOf } from "../errors.ts";
import { close } from "../linux/libc.ts";
import { send, unixPair } from "../linux/unix-socket.ts";
import { ownProcess } from "../process/own-files.ts";
import { Channel } from "./channel.ts";
import { RendererGone, RendererRefused } from "./errors.ts";
import * as message from "./messages.ts";
import { privateBytesOf } from "./private-memory.ts";

/** Mesa and LLVM are 150 MB to be read, on machines that have just been started. */
const START_MS = 120_000;
/** What a guest can ask for in one piece takes less, even on a machine with much else to do. */
const SILENT_MS = 30_000;
const LOOK_MS = 1000;
/** What a renderer takes beside what guests are counted for: Mesa, LLVM, and what they make of shaders. */
const OWN_BYTES = 512 << 20;
/** What it has said last is often why it has ended. */
const LAST_WORDS = 400;

export interface Capset {
  readonly id: number;
  readonly version: number;
  readonly bytes: Buffer;
}

export interface RendererOptions {
  /** VIRGL_RENDERER_* */
  readonly flags: number;
  /** Left out: what EGL finds by itself. */
  readonly renderNode: string | undefined;
  /** In bytes, of what guests are counted for. */
  readonly maxMemory: number;
  /** How long it may say nothing while somebody waits for it, in milliseconds. */
  readonly silentMs?: number;
  /** All fences up to this one have been passed. */
  passed(fence: number): void;
  /** Once, with a phrase, unless it was closed. Questions have been answered before. */
  ended(reason: string): void;
}

interface Question {
  resolve(answer: message.Frame): void;
  reject(error: Error): void;
}

export class Renderer {
  capsets: readonly Capset[] = [];
  private readonly process: ChildProcess;
  private readonly channel: Channel;
  private readonly descriptorsFd: number;
  private readonly questions: Question[] = [];
  private readonly fences = new Set<number>();
  private lastFence = 0;
  private lastWords = "";
  private isOpen = true;
  private silence: NodeJS.Timeout | undefined;
  private watch: NodeJS.Timeout | undefined;

  private constructor(private readonly options: RendererOptions) {
    const [own, theirs] = unixPair();
    const [descriptorsFd, theirDescriptors] = unixPair();
    const { file, args, argv0 } = ownProcess("renderer");
    const { NODE_OPTIONS, ...environment } = process.env;
    this.process = spawn(file, args, {
      argv0,
      // Nothing of a guest's is left in the user's files.
      env: { MESA_SHADER_CACHE_DISABLE: "true", ...environment },
      stdio: ["ignore", "pipe", "pipe", theirs, theirDescriptors],
    });
    close(theirs);
    close(theirDescriptors);
    this.descriptorsFd = descriptorsFd;
    // There is none where no process could be made.
    for (const stream of [this.process.stdout, this.process.stderr])
      stream?.on("data", (bytes: Buffer) => {
        this.lastWords = (this.lastWords + bytes.toString("latin1")).slice(-LAST_WORDS);
      });
    this.process.once("error", (error) => this.end(`it can't be started: ${reasonOf(error)}`));
    this.process.once("close", (status, signal) => this.end(this.ending(status, signal)));
    // Its end says more, and comes at once.
    this.channel = new Channel(own, {
      hear: (frame) => this.hear(frame),
      closed: (reason) => reason && this.end(`it has sent ${reason}`),
    });
  }

  /** Throws RendererRefused and RendererGone. */
  static async start(options: RendererOptions): Promise<Renderer> {
    const renderer = new Renderer(options);
    try {
      const node = Buffer.from(options.renderNode ?? "");
      const opened = renderer.question(message.OPEN, 0, [options.flags], node);
      renderer.expect(START_MS);
      const { words, bytes } = await opened;
      renderer.capsets = capsetsOf(words, bytes);
      return renderer;
    } catch (error) {
      const sentence = renderer.lastLine === "" ? "" : ` (${renderer.lastLine})`;
      renderer.close();
      if (error instanceof RendererRefused)
        throw new RendererRefused(error.status, `${error.message}${sentence}`);
      throw error;
    }
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  get isGone(): boolean {
    return !this.isOpen;
  }

  /** What draws, as Mesa says it. */
  get name(): string {
    const texts = this.capsets.flatMap(({ bytes }) => bytes.toString("latin1").match(/[ -~]{6,}/g) ?? []);
    return texts.at(-1) ?? "an unknown renderer";
  }

  /** The number of a fence, for ask(). passed() is called for it, if it was asked and answered. */
  nextFence(): number {
    this.lastFence = (this.lastFence % 0x7fff_ffff) + 1;
    return this.lastFence;
  }

  /** In the order in which it is asked. Rejects with RendererRefused and RendererGone. */
  async ask(kind: number, words: readonly number[], bytes?: Uint8Array, fence = 0): Promise<void> {
    if (fence !== 0) this.fences.add(fence);
    try {
      await this.question(kind, fence, words, bytes);
    } catch (error) {
      this.fences.delete(fence);
      throw error;
    }
  }

  /** The same, with descriptors, which stay the caller's. */
  askWith(fds: readonly number[], kind: number, words: readonly number[]): Promise<void> {
    const byte = Buffer.alloc(1);
    for (const fd of this.isOpen ? fds : []) {
      if (send(this.descriptorsFd, byte, [fd]) === 1) continue;
      this.end("it takes no descriptors");
      break;
    }
    return this.ask(kind, words);
  }

  close(): void {
    this.shut("the renderer has been closed");
  }

  private shut(reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    clearTimeout(this.silence);
    clearTimeout(this.watch);
    this.channel.close();
    close(this.descriptorsFd);
    this.process.kill("SIGKILL");
    const gone = new RendererGone(reason);
    for (const { reject } of this.questions.splice(0)) reject(gone);
  }

  private question(
    kind: number,
    fence: number,
    words: readonly number[],
    bytes?: Uint8Array,
  ): Promise<message.Frame> {
    if (!this.isOpen) return Promise.reject(new RendererGone("the renderer has ended"));
    return new Promise((resolve, reject) => {
      this.questions.push({ resolve, reject });
      this.channel.write(message.encodeFrame(kind, fence, words, bytes));
      if (this.silence === undefined) this.expect(this.silentMs);
      this.watch ??= setTimeout(() => this.weigh(), LOOK_MS);
    });
  }

  private hear(frame: message.Frame): void {
    if (frame.kind === message.FENCE_PASSED) this.pass(frame.value);
    else if (frame.kind === message.ANSWER && this.questions.length > 0) this.answer(frame);
    else throw new RangeError(`message ${frame.kind}, which nobody has asked for`);
    this.expect(this.silentMs);
  }

  private answer(frame: message.Frame): void {
    const { resolve, reject } = this.questions.shift()!;
    if (frame.value === message.DONE) resolve(frame);
    else reject(new RendererRefused(frame.value, frame.bytes.toString()));
  }

  private pass(fence: number): void {
    for (const each of this.fences.has(fence) ? this.fences : []) {
      this.fences.delete(each);
      if (each === fence) break;
    }
    this.options.passed(fence);
  }

  /** A sign of life, within this time, if anything is to come. */
  private expect(withinMs: number): void {
    clearTimeout(this.silence);
    this.silence = undefined;
    if (!this.isAwaited) return;
    // What came while this process was kept from running is only seen behind the timer.
    const end = () => this.end(`it has not answered for ${withinMs / 1000} s`);
    this.silence = setTimeout(() => {
      const { silence } = this;
      setImmediate(() => setImmediate(() => this.silence === silence && end()));
    }, withinMs);
  }

  private get isAwaited(): boolean {
    return this.questions.length + this.fences.size > 0;
  }

  private get silentMs(): number {
    return this.options.silentMs ?? SILENT_MS;
  }

  /** While it works: it takes no more otherwise. */
  private weigh(): void {
    this.watch = this.isAwaited ? setTimeout(() => this.weigh(), LOOK_MS) : undefined;
    const most = this.options.maxMemory + OWN_BYTES;
    const bytes = privateBytesOf(this.process.pid);
    if (bytes > most) this.end(`it took more than ${most >> 20} MiB of memory`);
  }

  private get lastLine(): string {
    return this.lastWords.trimEnd().split("\n").at(-1)!.trim();
  }

  private ending(status: number | null, signal: NodeJS.Signals | null): string {
    const how = signal ? `it was ended by ${signal}` : `it ended with status ${status}`;
    return this.lastLine === "" ? how : `${how}: ${this.lastLine}`;
  }

  private end(reason: string): void {
    if (!this.isOpen) return;
    this.shut(reason);
    this.options.ended(reason);
  }
}

/** id, version and byteLength each; the bytes one behind the other. Without those that the renderer has not. */
function capsetsOf(words: readonly number[], bytes: Buffer): Capset[] {
  const capsets: Capset[] = [];
  for (let i = 0, at = 0; i < words.length; i += 3) {
    const [id, version, byteLength] = [words[i]!, words[i + 1]!, words[i + 2]!];
    if (byteLength > 0) capsets.push({ id, version, bytes: bytes.subarray(at, at + byteLength) });
    at += byteLength;
  }
  return capsets;
}
