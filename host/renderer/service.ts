// The renderer's process: does what the device asks, one request after the other, and tells which fences have been passed.
import { constants, openSync } from "node:fs";
import { whenReadable } from "../linux/readiness.ts";
import { receive } from "../linux/unix-socket.ts";
import { type Box, type Layout, Virgl, VirglError } from "../linux/virglrenderer.ts";
import { Channel } from "./channel.ts";
import { GuestMap, REGION_WORDS } from "./guest-map.ts";
import * as message from "./messages.ts";
import { Objects } from "./objects.ts";
import { PixelTarget } from "./shared-pixels.ts";

/** Sets of capabilities that a guest can be told of (virtio 1.4, 5.7.6.8, VIRTIO_GPU_CAPSET_*). */
const CAPSETS = [1, 2];

/** How often to look for passed fences where the library has no descriptor to wait for. */
const LOOK_MS = 2;

interface Answer {
  readonly words?: readonly number[];
  readonly bytes?: Uint8Array;
}

const NOTHING: Answer = {};

type Handler = (words: readonly number[], bytes: Buffer) => void;

export class RendererService {
  private readonly channel: Channel;
  private readonly guest = new GuestMap();
  private readonly fences = new Set<number>();
  private opened: { virgl: Virgl; objects: Objects } | undefined;
  private timer: NodeJS.Timeout | undefined;

  /** Takes the descriptors: frames go over one, and descriptors over the other. */
  constructor(
    fd: number,
    private readonly descriptorsFd: number,
  ) {
    this.channel = new Channel(fd, {
      hear: ({ kind, value, words, bytes }) => this.serve(kind, value, words, bytes),
      closed: () => process.exit(0),
    });
  }

  private readonly handlers: Readonly<Record<number, Handler>> = {
    [message.SET_MEMORY]: (words) => this.setMemory(words),
    [message.RESET]: () => this.objects.clear(),
    [message.CREATE_CONTEXT]: ([context], name) => this.objects.createContext(context!, name.toString()),
    [message.DESTROY_CONTEXT]: ([context]) => this.objects.destroyContext(context!),
    [message.ATTACH_RESOURCE]: ([context, resource]) => this.virgl.attachResource(context!, resource!),
    [message.DETACH_RESOURCE]: ([context, resource]) => this.virgl.detachResource(context!, resource!),
    [message.CREATE_RESOURCE]: (args) => this.objects.createResource(args),
    [message.UNREF_RESOURCE]: ([resource]) => this.objects.unrefResource(resource!),
    [message.ATTACH_BACKING]: ([resource], entries) => this.objects.attach(resource!, entries),
    [message.DETACH_BACKING]: ([resource]) => this.objects.detach(resource!),
    [message.SUBMIT]: ([context], commands) => this.submit(context!, commands),
    [message.TRANSFER_TO_HOST]: (words) => this.virgl.write(...transferOf(words)),
    [message.TRANSFER_FROM_HOST]: (words) => this.virgl.read(...transferOf(words)),
    [message.SHOW]: ([resource, width, height]) =>
      this.objects.show(resource!, new PixelTarget(this.descriptors(1)[0]!, width!, height!)),
    [message.READ_PIXELS]: ([resource, x, y, width, height]) =>
      this.objects.readPixels(resource!, { x: x!, y: y!, width: width!, height: height! }),
  };

  private get virgl(): Virgl {
    return this.opened!.virgl;
  }

  private get objects(): Objects {
    return this.opened!.objects;
  }

  private serve(kind: number, fence: number, words: readonly number[], bytes: Buffer): void {
    try {
      const answer = kind === message.OPEN ? this.open(words[0]!, bytes.toString()) : NOTHING;
      this.handlers[kind]?.(words, bytes);
      if (fence !== 0) this.await(fence);
      this.channel.write(message.encodeFrame(message.ANSWER, message.DONE, answer.words, answer.bytes));
    } catch (error) {
      const status = error instanceof RangeError ? message.NO_MEMORY : message.REFUSED;
      const sentence = Buffer.from((error as Error).message);
      this.channel.write(message.encodeFrame(message.ANSWER, status, [], sentence));
    }
  }

  private open(flags: number, node: string): Answer {
    const openNode = () => openSync(node, constants.O_RDWR);
    const virgl = Virgl.open({
      flags,
      ...(node === "" ? {} : { openNode }),
      passed: (fence) => this.tellPassed(fence),
    });
    this.opened = { virgl, objects: new Objects(virgl, this.guest) };
    const { pollFd } = virgl;
    if (pollFd !== undefined) whenReadable(pollFd, () => virgl.poll());
    const capsets = CAPSETS.map((id) => ({ id, ...virgl.capset(id) }));
    return {
      words: capsets.flatMap(({ id, version, bytes }) => [id, version, bytes.length]),
      bytes: Buffer.concat(capsets.map(({ bytes }) => bytes)),
    };
  }

  private setMemory(words: readonly number[]): void {
    const fds = this.descriptors(words.length / REGION_WORDS);
    this.objects.withoutMemory(() => this.guest.replace(words, fds));
  }

  /** In memory that stays where it is and begins at a word. */
  private submit(context: number, commands: Buffer): void {
    const copy = new Uint8Array(new ArrayBuffer(commands.length));
    copy.set(commands);
    this.virgl.submit(context, copy);
  }

  /** They were sent before the request. */
  private descriptors(count: number): number[] {
    const fds: number[] = [];
    while (fds.length < count) {
      const received = receive(this.descriptorsFd, Buffer.alloc(1));
      if (received === undefined || received.byteLength === 0) throw new Error("descriptors are missing");
      fds.push(...received.fds);
    }
    return fds;
  }

  private await(fence: number): void {
    this.fences.add(fence);
    try {
      this.virgl.createFence(fence);
    } catch (error) {
      if (!(error instanceof VirglError)) throw error;
      // What can't be waited for has been passed.
      setImmediate(() => this.tellPassed(fence));
    }
    if (this.virgl.pollFd === undefined) this.lookLater();
  }

  private tellPassed(fence: number): void {
    for (const each of this.fences) {
      this.fences.delete(each);
      if (each === fence) break;
    }
    this.channel.write(message.encodeFrame(message.FENCE_PASSED, fence));
  }

  private lookLater(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.virgl.poll();
      if (this.fences.size > 0) this.lookLater();
    }, LOOK_MS);
  }
}

function transferOf(words: readonly number[]): [number, number, Box, Layout] {
  const [resource, context, x, y, z, width, height, depth, level, stride, layerStride, low, high] = words;
  const box: Box = [x!, y!, z!, width!, height!, depth!];
  const offset = message.whole(low!, high!);
  return [resource!, context!, box, { level: level!, stride: stride!, layerStride: layerStride!, offset }];
}
