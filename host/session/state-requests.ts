// A device's state through a pipe of the front-end's (vhost-user, "Migrating back-end state"): it is written or read in the background,
// and CHECK_DEVICE_STATE asks how that went.
import { readSync, writeSync } from "node:fs";
import type { DeviceState } from "../devices/device.ts";
import { DeviceTooSlow, inTime } from "../devices/patience.ts";
import { ProtocolError } from "../errors.ts";
import { close } from "../linux/libc.ts";
import { whenReadable, whenWritable } from "../linux/readiness.ts";
import { setNonBlocking } from "../linux/unix-socket.ts";
import * as codec from "../protocol/codec.ts";
import type { Message } from "../protocol/connection.ts";
import * as m from "../protocol/messages.ts";
import type { Payload } from "./request.ts";
import type { SessionSeat } from "./seat.ts";

/** Far more than any device's. */
const STATE_MAX = 64 << 10;
/** "Bit 8 is the invalid FD flag": the reply brings no descriptor, so the front-end's is used. */
const NO_FD_RETURNED = 0x100n;

export class StateRequests {
  private pipe: Pipe | undefined;
  private transfer: Promise<void> = Promise.reject(new Error("nothing was transferred"));
  /** As it was loaded last: the device is told of it again when the front-end is served again after another. */
  private loaded: Uint8Array | undefined;

  constructor(
    private readonly state: DeviceState | undefined,
    private readonly seat: Pick<SessionSeat, "take">,
  ) {
    this.transfer.catch(() => {});
  }

  /** The device that this front-end has loaded. */
  seated(): void {
    if (this.loaded !== undefined) this.state?.load(this.loaded);
  }

  end(): void {
    this.pipe?.close();
  }

  /** Whether the front-end is writing or reading the device's state, which no other process can go on with. */
  get isTransferring(): boolean {
    return this.pipe?.isOpen ?? false;
  }

  save(): Uint8Array | undefined {
    return this.loaded;
  }

  restore(loaded: Uint8Array | undefined): void {
    this.loaded = loaded;
  }

  async setDeviceStateFd(message: Message): Promise<Payload> {
    const { direction, phase } = codec.decodeStateTransfer(message);
    if (phase !== m.VHOST_TRANSFER_STATE_PHASE_STOPPED || direction > m.VHOST_TRANSFER_STATE_DIRECTION_LOAD) {
      throw new ProtocolError("SET_DEVICE_STATE_FD", `direction ${direction}, phase ${phase}`);
    }
    await this.seat.take("SET_DEVICE_STATE_FD");
    this.pipe?.close();
    const pipe = new Pipe(message.fds.pop()!);
    this.pipe = pipe;
    const isSave = direction === m.VHOST_TRANSFER_STATE_DIRECTION_SAVE;
    this.transfer = (isSave ? pipe.write(this.state!.save()) : this.load(pipe)).finally(() => pipe.close());
    this.transfer.catch(() => {});
    return codec.encodeU64(NO_FD_RETURNED);
  }

  async checkDeviceState(message: Message): Promise<Payload> {
    codec.decodeNothing(message);
    try {
      await inTime(this.transfer);
    } catch (error) {
      if (error instanceof DeviceTooSlow) this.pipe?.close();
      throw new ProtocolError("CHECK_DEVICE_STATE", (error as Error).message);
    }
    return codec.encodeU64(0n);
  }

  /** An empty state is that of a back-end that had nothing to say. */
  private async load(pipe: Pipe): Promise<void> {
    const bytes = await pipe.read();
    if (bytes.length === 0) return;
    this.state!.load(bytes);
    this.loaded = bytes;
  }
}

/** One transfer, in the background. What is left of it when it is closed fails. */
class Pipe {
  private endWait: ((error: Error) => void) | undefined;
  private isClosed = false;

  constructor(private readonly fd: number) {
    setNonBlocking(fd);
  }

  get isOpen(): boolean {
    return !this.isClosed;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const written = this.attempt(() => writeSync(this.fd, bytes, at));
      if (written === undefined) await this.wait(whenWritable);
      else at += written;
    }
  }

  /** Up to the end of the file. */
  async read(): Promise<Uint8Array> {
    const bytes = Buffer.alloc(STATE_MAX);
    for (let at = 0; at < bytes.length; ) {
      const count = this.attempt(() => readSync(this.fd, bytes, at, bytes.length - at, null));
      if (count === 0) return bytes.subarray(0, at);
      if (count === undefined) await this.wait(whenReadable);
      else at += count;
    }
    throw new Error(`a state of ${STATE_MAX} bytes or more`);
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.endWait?.(new Error("the transfer was given up"));
    close(this.fd);
  }

  /** Undefined where it would have to wait. */
  private attempt(action: () => number): number | undefined {
    try {
      return action();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return undefined;
      throw error;
    }
  }

  private wait(when: typeof whenReadable): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        watch.stop();
        this.endWait = undefined;
        settle();
      };
      const watch = when(this.fd, () => end(resolve));
      this.endWait = (error) => end(() => reject(error));
    });
  }
}
