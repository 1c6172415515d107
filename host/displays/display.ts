// The front-end's display: its outputs, what they are told, and what it is asked. Nobody waits for it longer than they want to.
import { GPU_DISPLAY_INFO_SIZE, GPU_EDID_SIZE } from "../../assembly/spec/virtio-gpu.ts";
import type { Screen, WatchedScreen } from "../devices/device.ts";
import { hasFeature } from "../protocol/feature-bits.ts";
import { Link } from "./link.ts";
import * as message from "./messages.ts";
import { MESSAGE_PIXELS, Output } from "./output.ts";

/** How long a question may take: longer than any that a front-end with work to do takes. */
const ANSWER_MS = 2000;

const REPLY_BYTES: Readonly<Record<number, number>> = {
  [message.VHOST_USER_GPU_GET_DISPLAY_INFO]: GPU_DISPLAY_INFO_SIZE,
  [message.VHOST_USER_GPU_GET_EDID]: GPU_EDID_SIZE,
};

/** Whoever asked wants no answer any more. */
export class Withdrawn extends Error {}

interface Question {
  readonly request: number;
  readonly bytes: Uint8Array;
  isSent: boolean;
  /** Undefined once nobody waits: what comes then is passed over. */
  settle: ((answer: Buffer | undefined | Withdrawn) => void) | undefined;
}

export class Display {
  readonly outputs: readonly Output[];
  /** All outputs, by their numbers. */
  readonly watchedScreens: ReadonlyMap<string, WatchedScreen>;
  private readonly update = new message.UpdateMessage(MESSAGE_PIXELS);
  private link: Link | undefined;
  /** Of the front-end's protocol, once it has said. */
  private features: bigint | undefined;
  private greeting: Uint8Array[] = [];
  private question: Question | undefined;
  /** Whose turn it is to be told, so that none starves. */
  private turn = 0;

  /** `complain`: with a sentence about the front-end. */
  constructor(
    outputCount: number,
    private readonly complain: (reason: string) => void,
  ) {
    this.outputs = Array.from({ length: outputCount }, (_, index) => new Output(index));
    this.watchedScreens = new Map(this.outputs.map((output, index) => [String(index), output]));
  }

  /** By their numbers, those that show something. */
  get screens(): Map<string, Screen> {
    const shown = this.outputs.flatMap(({ screen }, index) =>
      screen ? [[String(index), screen] as const] : [],
    );
    return new Map(shown);
  }

  get isThere(): boolean {
    return this.link !== undefined;
  }

  /** Takes the descriptor, in place of the one before. Throws RangeError for what is no socket. */
  open(fd: number): void {
    this.closeLink();
    const link = new Link(fd, {
      next: () => this.next(),
      hear: (request, payload) => this.hear(request, payload),
      lost: (reason) => {
        this.link = undefined;
        if (reason) this.complain(reason);
      },
    });
    this.link = link;
    this.features = undefined;
    this.greeting = [message.encode(message.VHOST_USER_GPU_GET_PROTOCOL_FEATURES)];
    // Who had been asked has gone: the new one is.
    if (this.question?.settle) this.question.isSent = false;
    else this.question = undefined;
    for (const output of this.outputs) output.begin();
    link.wake();
  }

  /** Something is to be told. */
  wake(): void {
    this.link?.wake();
  }

  /**
   * The body of struct virtio_gpu_resp_display_info, or of virtio_gpu_resp_edid. Undefined where nobody can say. Rejects with
   * Withdrawn.
   */
  async displayInfo(): Promise<Buffer | undefined> {
    return this.ask(message.VHOST_USER_GPU_GET_DISPLAY_INFO);
  }

  async edid(output: number): Promise<Buffer | undefined> {
    return this.ask(message.VHOST_USER_GPU_GET_EDID, output);
  }

  /** Whoever has asked is told at once that there is no answer yet. */
  withdraw(): void {
    this.question?.settle?.(new Withdrawn());
  }

  close(): void {
    this.withdraw();
    this.closeLink();
    this.question = undefined;
  }

  private closeLink(): void {
    this.link?.close();
    this.link = undefined;
  }

  private ask(request: number, ...numbers: readonly number[]): Promise<Buffer | undefined> {
    // One that has left a question unanswered is asked no more.
    if (this.link === undefined || this.question !== undefined) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => question.settle?.(undefined), ANSWER_MS);
      const bytes = message.encode(request, ...numbers);
      const question: Question = {
        request,
        bytes,
        isSent: false,
        settle: (answer) => {
          clearTimeout(timer);
          question.settle = undefined;
          if (!question.isSent) this.question = undefined;
          if (answer instanceof Withdrawn) reject(answer);
          else resolve(answer);
        },
      };
      this.question = question;
      this.wake();
    });
  }

  private next(): Uint8Array | undefined {
    return this.greeting.shift() ?? this.nextQuestion() ?? this.nextOfOutputs();
  }

  private nextQuestion(): Uint8Array | undefined {
    const { question, features } = this;
    if (question === undefined || question.isSent || features === undefined) return undefined;
    const isForEdid = question.request === message.VHOST_USER_GPU_GET_EDID;
    if (isForEdid && !hasFeature(features, message.VHOST_USER_GPU_PROTOCOL_F_EDID)) {
      question.settle?.(undefined);
      return undefined;
    }
    question.isSent = true;
    return question.bytes;
  }

  private nextOfOutputs(): Uint8Array | undefined {
    const { length } = this.outputs;
    for (let i = 0; i < length; i++) {
      const index = (this.turn + i) % length;
      const bytes = this.outputs[index]!.next(this.update);
      if (bytes === undefined) continue;
      this.turn = index + 1;
      return bytes;
    }
    return undefined;
  }

  private hear(request: number, payload: Buffer): void {
    if (request === message.VHOST_USER_GPU_GET_PROTOCOL_FEATURES && payload.length === 8) {
      this.agree(payload.readBigUInt64LE());
      return;
    }
    const { question } = this;
    if (question?.isSent && question.request === request && payload.length === REPLY_BYTES[request]) {
      this.question = undefined;
      question.settle?.(Buffer.from(payload));
      return;
    }
    this.closeLink();
    this.complain(`a reply to message ${request} with ${payload.length} bytes, which nobody has asked for`);
  }

  private agree(offered: bigint): void {
    this.features = offered & (1n << BigInt(message.VHOST_USER_GPU_PROTOCOL_F_EDID));
    this.greeting.push(message.encodeU64(message.VHOST_USER_GPU_SET_PROTOCOL_FEATURES, this.features));
    this.wake();
  }
}
