// The driver of an I2C adapter: groups of messages as requests, and what became of each.
import {
  I2C_OUT_HDR_SIZE,
  VIRTIO_I2C_F_ZERO_LENGTH_REQUEST,
  VIRTIO_I2C_FLAGS_FAIL_NEXT,
  VIRTIO_I2C_FLAGS_M_RD,
  VIRTIO_I2C_MSG_OK,
} from "../../assembly/spec/virtio-i2c.ts";
import type { FrontEnd, FrontEndOptions } from "../../host/front-end/front-end.ts";
import { ChainDriver, connectDevice, type Posted } from "./chain-driver.ts";

/** Bytes to write, or how many to read. */
export interface Message {
  readonly address: number;
  readonly write?: readonly number[];
  readonly read?: number;
}

export interface Answer {
  readonly isOk: boolean;
  readonly data: Buffer;
}

export function connectI2c(socketPath: string, options: FrontEndOptions = {}): Promise<FrontEnd> {
  return connectDevice(socketPath, { bits: [VIRTIO_I2C_F_ZERO_LENGTH_REQUEST], queueSize: 16, ...options });
}

export function headerOf(addr: number, flags: number): Buffer {
  const header = Buffer.alloc(I2C_OUT_HDR_SIZE);
  header.writeUInt16LE(addr, 0);
  header.writeUInt32LE(flags, 4);
  return header;
}

export class I2cDriver {
  readonly chains: ChainDriver;

  constructor(readonly frontEnd: FrontEnd) {
    this.chains = new ChainDriver(frontEnd, 0);
  }

  /** `isFollowed`: the next one is of the same group. */
  post({ address, write = [], read }: Message, isFollowed = false): Posted {
    const flags =
      (isFollowed ? VIRTIO_I2C_FLAGS_FAIL_NEXT : 0) | (read === undefined ? 0 : VIRTIO_I2C_FLAGS_M_RD);
    const readable = [headerOf(address << 1, flags), ...(write.length > 0 ? [Buffer.from(write)] : [])];
    const room = [...(read ? [read] : []), 1];
    return this.chains.post(readable, room, { indirect: true });
  }

  postGroup(messages: readonly Message[]): Posted[] {
    return messages.map((message, i) => this.post(message, i < messages.length - 1));
  }

  async answers(posted: readonly Posted[]): Promise<Answer[]> {
    const answers: Answer[] = [];
    for (const each of posted) {
      const { bytes } = await this.chains.used(each);
      answers.push({ isOk: bytes.at(-1) === VIRTIO_I2C_MSG_OK, data: bytes.subarray(0, -1) });
    }
    return answers;
  }

  /** One group, from its first start to its stop. */
  transfer(...messages: Message[]): Promise<Answer[]> {
    return this.answers(this.postGroup(messages));
  }

  /** What the last message has read. Undefined if anything has failed. */
  async exchange(...messages: Message[]): Promise<Buffer | undefined> {
    const answers = await this.transfer(...messages);
    return answers.every(({ isOk }) => isOk) ? answers.at(-1)!.data : undefined;
  }

  async isThere(address: number): Promise<boolean> {
    return (await this.exchange({ address })) !== undefined;
  }
}
