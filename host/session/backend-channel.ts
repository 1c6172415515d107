// The channel on which the back-end speaks first ("Back-end communication"). No reply is asked for: user-mode-linux gives the
// writing end of a pipe, and whoever does not read must not hold up the device.
import { fstatSync, writeSync } from "node:fs";
import { ProtocolError } from "../errors.ts";
import { Descriptor } from "../linux/descriptor.ts";
import { close } from "../linux/libc.ts";
import { whenWritable } from "../linux/readiness.ts";
import { setNonBlocking } from "../linux/unix-socket.ts";
import { encodeMessage } from "../protocol/codec.ts";
import { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG } from "../protocol/messages.ts";
import type { ChannelState } from "./session-state.ts";

const NOTHING = new Uint8Array(0);
const CONFIG_CHANGE = encodeMessage(VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, Buffer.alloc(0));

export class BackendChannel {
  private fd: number | undefined;
  /** The config space has changed since the last message about it began: several changes make one message. */
  private hasChanged = false;
  /** What is left of the message that is being written. */
  private rest: Uint8Array = NOTHING;
  private wait: { stop(): void } | undefined;

  /** Takes the descriptor, and closes the one before. Throws ProtocolError for what is neither a socket nor a pipe. */
  open(fd: number): void {
    this.closeFd();
    this.fd = fd;
    const status = fstatSync(fd);
    if (!status.isSocket() && !status.isFIFO()) {
      this.closeFd();
      throw new ProtocolError("SET_BACKEND_REQ_FD", "the descriptor is neither a socket nor a pipe");
    }
    setNonBlocking(fd);
    this.write();
  }

  /** Tells the front-end, as soon as it has a channel with room. Never waits. */
  configChanged(): void {
    this.hasChanged = true;
    this.write();
  }

  save(): ChannelState | undefined {
    const { fd, hasChanged, rest } = this;
    return fd === undefined ? undefined : { socket: new Descriptor(fd), hasChanged, rest };
  }

  /** Takes the descriptor, and goes on with what a predecessor had begun to write. */
  restore({ socket, hasChanged, rest }: ChannelState): void {
    this.fd = socket.fd;
    this.hasChanged = hasChanged;
    this.rest = rest;
    this.write();
  }

  /** What was not told yet is dropped. */
  close(): void {
    this.closeFd();
    this.hasChanged = false;
  }

  private write(): void {
    if (this.fd === undefined || this.wait !== undefined) return;
    try {
      while (this.rest.length > 0 || this.hasChanged) {
        if (this.rest.length === 0) {
          this.rest = CONFIG_CHANGE;
          this.hasChanged = false;
        }
        this.rest = this.rest.subarray(writeSync(this.fd, this.rest));
      }
    } catch (error) {
      // Whatever else it is: the channel has no reader, or no use.
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") this.writeLater(this.fd);
      else this.close();
    }
  }

  private writeLater(fd: number): void {
    if (this.rest.length === CONFIG_CHANGE.length) {
      // Not begun: it says the same as the changes that may come meanwhile.
      this.rest = NOTHING;
      this.hasChanged = true;
    }
    this.wait = whenWritable(fd, () => {
      this.endWait();
      this.write();
    });
  }

  private endWait(): void {
    this.wait?.stop();
    this.wait = undefined;
  }

  private closeFd(): void {
    this.endWait();
    this.rest = NOTHING;
    if (this.fd !== undefined) close(this.fd);
    this.fd = undefined;
  }
}
