// What becomes of a message: it finds its request in the table, is checked, handled, and answered.
import { ProtocolError } from "../errors.ts";
import { close } from "../linux/libc.ts";
import type { Log } from "../process/log.ts";
import * as codec from "../protocol/codec.ts";
import type { Connection, Message } from "../protocol/connection.ts";
import * as m from "../protocol/messages.ts";
import type { DeviceRequests } from "./device-requests.ts";
import { ACK, isFrontEndsFault, NACK, type Payload, type Request, unknownRequest } from "./request.ts";

export class Answers {
  constructor(
    private readonly connection: Pick<Connection, "send">,
    private readonly table: ReadonlyMap<number, Request>,
    private readonly negotiated: Pick<DeviceRequests, "hasProtocolFeature">,
    /** Descriptors that go with the reply being made. */
    private readonly replyFds: number[],
    private readonly log: Log,
  ) {}

  /** Takes the message's descriptors. Throws what must end the connection. */
  async serve(message: Message): Promise<void> {
    const payload = await this.answer(message);
    if (payload === undefined) return;
    // Version 1 and the reply flag, nothing else ("Header").
    const reply = codec.encodeMessage(message.request, m.VHOST_USER_REPLY_MASK, payload);
    const fds = this.replyFds.splice(0);
    try {
      await this.connection.send(reply, fds);
    } finally {
      fds.forEach((fd) => {
        close(fd);
      });
    }
  }

  private async answer(message: Message): Promise<Payload> {
    const request = this.table.get(message.request) ?? unknownRequest(message.request);
    this.log.debug({ request: m.requestName(message.request), bytes: message.payload.length }, "request");
    try {
      this.check(request, message);
      const payload = await request.handle(message);
      return payload ?? (this.needsAck(message) ? ACK : undefined);
    } catch (error) {
      if (!isFrontEndsFault(error)) throw error;
      return this.refuse(request, message, error);
    } finally {
      // Whatever no handler has taken.
      for (const fd of message.fds) close(fd);
    }
  }

  private check({ feature, fds }: Request, message: Message): void {
    const name = m.requestName(message.request);
    if (feature !== undefined && !this.negotiated.hasProtocolFeature(feature)) {
      throw new ProtocolError(name, "its protocol feature was not negotiated");
    }
    const { length } = message.fds;
    if (fds === undefined ? length > 0 : !fds(length)) throw new ProtocolError(name, `${length} descriptors`);
  }

  private refuse(request: Request, message: Message, error: Error): Payload {
    const payload = request.failure ?? (this.needsAck(message) ? NACK : undefined);
    if (payload === undefined && !request.isHarmless) throw error;
    this.log.warn({ reason: error.message }, "request refused");
    return payload;
  }

  private needsAck({ flags }: Message): boolean {
    return (
      this.negotiated.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_REPLY_ACK) &&
      (flags & m.VHOST_USER_NEED_REPLY_MASK) !== 0
    );
  }
}
