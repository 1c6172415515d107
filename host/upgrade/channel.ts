// The socket between a process and its successor: documents, each with its descriptors.
//
//   0   u32  bytes of text
//   4   u32  descriptors
//   8   a byte for each 253 of them, which come along with it; then the text
import { EPIPE } from "../linux/errno.ts";
import { close, SystemError } from "../linux/libc.ts";
import { whenReadable, whenWritable } from "../linux/readiness.ts";
import { receive, send } from "../linux/unix-socket.ts";
import { decodeDocument, encodeDocument } from "./document.ts";

const HEADER_BYTES = 8;
/** SCM_MAX_FD of the kernel. */
const FDS_A_BYTE = 253;
/** Far more than 509 regions and 256 rings take. */
const TEXT_MAX = 64 << 20;
const FDS_MAX = 65536;

export class Channel {
  private isOpen = true;

  /** Takes the descriptor, which must not block. */
  constructor(private readonly fd: number) {}

  /** The descriptors of `value` stay the caller's. One call at a time. Fails with EPIPE if the other process has gone. */
  async send(value: unknown): Promise<void> {
    const { text, fds } = encodeDocument(value);
    const bytes = Buffer.from(text);
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(bytes.length, 0);
    header.writeUInt32LE(fds.length, 4);
    await this.sendWhole(header);
    for (let at = 0; at < fds.length; at += FDS_A_BYTE)
      await this.sendWhole(Buffer.alloc(1), fds.slice(at, at + FDS_A_BYTE));
    await this.sendWhole(bytes);
  }

  /** The next document, whose descriptors are the caller's; undefined if the other process has gone. One call at a time. */
  async receive(): Promise<unknown> {
    const fds: number[] = [];
    const text = await this.receiveText(fds).catch((error: unknown) => {
      // It died with bytes of ours unread.
      if (!(error instanceof SystemError)) throw error;
      return undefined;
    });
    if (text !== undefined) return decodeDocument({ text: text.toString(), fds });
    for (const fd of fds) close(fd);
    return undefined;
  }

  close(): void {
    if (this.isOpen) close(this.fd);
    this.isOpen = false;
  }

  private async receiveText(fds: number[]): Promise<Buffer | undefined> {
    const header = await this.receiveBytes(HEADER_BYTES, fds);
    if (header === undefined) return undefined;
    const [byteLength, fdCount] = [header.readUInt32LE(0), header.readUInt32LE(4)];
    if (byteLength > TEXT_MAX || fdCount > FDS_MAX) return undefined;
    for (let left = fdCount; left > 0; left -= FDS_A_BYTE)
      if ((await this.receiveBytes(1, fds)) === undefined) return undefined;
    return fds.length === fdCount ? this.receiveBytes(byteLength, fds) : undefined;
  }

  private async receiveBytes(byteLength: number, fds: number[]): Promise<Buffer | undefined> {
    const bytes = Buffer.alloc(byteLength);
    for (let at = 0; at < byteLength; ) {
      const received = this.isOpen ? receive(this.fd, bytes.subarray(at)) : { byteLength: 0, fds: [] };
      if (received === undefined) {
        await this.wait(whenReadable);
        continue;
      }
      fds.push(...received.fds);
      if (received.byteLength === 0) return undefined;
      at += received.byteLength;
    }
    return bytes;
  }

  private async sendWhole(bytes: Buffer, fds: readonly number[] = []): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (!this.isOpen) throw new SystemError("sendmsg", EPIPE);
      const sent = send(this.fd, bytes.subarray(at), at === 0 ? fds : []);
      at += sent;
      if (sent === 0) await this.wait(whenWritable);
    }
  }

  private wait(when: typeof whenReadable): Promise<void> {
    return new Promise((resolve) => {
      const watch = when(this.fd, () => {
        watch.stop();
        resolve();
      });
    });
  }
}
