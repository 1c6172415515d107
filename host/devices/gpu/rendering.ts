// Three dimensions of a device: its renderer, which is started anew for a driver's next life if it has ended, and the contexts that it has.
import { StartError } from "../../errors.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { type RendererChoice, whyNoNode } from "../../renderer/choice.ts";
import { RendererGone } from "../../renderer/errors.ts";
import * as message from "../../renderer/messages.ts";
import type { Asking } from "../../renderer/rendered.ts";
import { type Capset, Renderer } from "../../renderer/renderer.ts";
import type { DeviceMemory } from "../device.ts";
import type { Call } from "./control-queue.ts";
import { hasFence } from "./messages.ts";

/** A guest that ends its renderer again and again has none for the most part. */
const RESTART_MS = 10_000;

export class Rendering implements Asking {
  readonly contexts = new Set<number>();
  readonly capsets: readonly Capset[];
  /** Told of fences, and with undefined that nobody tells of them any more. */
  passed: (fence?: number) => void = () => {};
  log: Log = SILENT;
  private renderer: Promise<Renderer | undefined>;
  private current: Renderer | undefined;
  private startedMs = performance.now();
  private memory: DeviceMemory | undefined;
  private isClosed = false;
  /** How often a driver has begun. */
  private life = 0;

  private constructor(
    private readonly choice: RendererChoice,
    renderer: Renderer,
    private readonly relay: { to?: Rendering },
  ) {
    this.current = renderer;
    this.renderer = Promise.resolve(renderer);
    this.capsets = renderer.capsets.filter(({ id }) => choice.capsets.includes(id));
  }

  /** Throws StartError. */
  static async open(choice: RendererChoice): Promise<Rendering> {
    const relay: { to?: Rendering } = {};
    const whyNot = choice.renderNode && whyNoNode(choice.renderNode);
    if (whyNot) throw new StartError(`nothing can be drawn in three dimensions: ${whyNot}`);
    try {
      const renderer = await start(choice, relay);
      relay.to = new Rendering(choice, renderer, relay);
      return relay.to;
    } catch (error) {
      const reason = (error as Error).message;
      throw new StartError(
        `nothing can be drawn in three dimensions: ${reason}; "vringd doctor" may know more`,
      );
    }
  }

  get isThere(): boolean {
    return this.current?.isGone === false;
  }

  /** What draws. */
  get name(): string | undefined {
    return this.current?.name;
  }

  /** The renderer's process. */
  get pid(): number | undefined {
    return this.isThere ? this.current!.pid : undefined;
  }

  async ask(kind: number, words: readonly number[], bytes?: Uint8Array): Promise<void> {
    const { life } = this;
    await (await this.there()).ask(kind, words, bytes);
    // What it was for has gone with the driver's life.
    if (life !== this.life) throw new RendererGone("the driver has begun anew");
  }

  async askWith(fds: readonly number[], kind: number, words: readonly number[]): Promise<void> {
    if (this.current === undefined) throw new RendererGone("the renderer has ended");
    // At once: the descriptors may be closed in the next moment.
    await this.current.askWith(fds, kind, words);
  }

  /** The same, for a command whose answer waits until all has been drawn, if it has a fence. */
  async draw(call: Call, kind: number, words: readonly number[], bytes?: Uint8Array): Promise<void> {
    const renderer = await this.there();
    if (hasFence(call.header)) call.fence = renderer.nextFence();
    await renderer.ask(kind, words, bytes, call.fence);
  }

  /** Guest memory, as it is from here on. */
  useMemory(memory: DeviceMemory): void {
    this.memory = memory;
    memory.onChange(() => this.showMemory());
  }

  /** A driver's life begins anew, or there is none any more. */
  reset(): void {
    this.contexts.clear();
    this.life++;
    if (this.isThere) this.tell(this.current!.ask(message.RESET, []));
    else if (this.current && performance.now() - this.startedMs > RESTART_MS) this.restart();
  }

  /** The front-end has left, and takes its guest's memory with it. */
  forgetMemory(): void {
    if (this.isThere) this.tell(this.current!.ask(message.SET_MEMORY, []));
  }

  close(): void {
    this.isClosed = true;
    this.current?.close();
  }

  /** It has ended by itself. */
  ended(reason: string): void {
    const sentence = "the renderer has ended: the guest has no three dimensions until its driver begins anew";
    this.log.error({ reason }, sentence);
    this.contexts.clear();
    this.passed();
  }

  private async there(): Promise<Renderer> {
    const renderer = await this.renderer;
    if (renderer === undefined) throw new RendererGone("the renderer has ended");
    return renderer;
  }

  private restart(): void {
    this.startedMs = performance.now();
    this.current = undefined;
    this.renderer = this.startAnew();
  }

  private async startAnew(): Promise<Renderer | undefined> {
    try {
      const renderer = await start(this.choice, this.relay);
      this.current = renderer;
      if (this.isClosed) renderer.close();
      this.showMemory();
      return renderer;
    } catch (error) {
      this.log.error({ reason: (error as Error).message }, "no other renderer could be started");
      return undefined;
    }
  }

  private showMemory(): void {
    const files = this.memory?.files() ?? [];
    const words = files.flatMap(({ gpa, byteLength, offset, granularity }) => [
      ...[gpa, byteLength, offset].flatMap(message.halves),
      granularity,
    ]);
    const fds = files.map(({ fd }) => fd);
    if (this.isThere) this.tell(this.current!.askWith(fds, message.SET_MEMORY, words));
  }

  /** Nobody waits for it. */
  private tell(asked: Promise<void>): void {
    asked.catch((error) => {
      if (!(error instanceof RendererGone))
        this.log.warn({ reason: error.message }, "the renderer has refused");
    });
  }
}

function start({ flags, renderNode, maxMemory }: RendererChoice, relay: { to?: Rendering }) {
  return Renderer.start({
    flags,
    renderNode,
    maxMemory,
    passed: (fence) => relay.to?.passed(fence),
    ended: (reason) => relay.to?.ended(reason),
  });
}
