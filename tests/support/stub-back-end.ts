// What may listen at a socket in place of a sound back-end: it answers as it is told, or not at all.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeHeader, encodeMessage, encodeU64, HEADER_SIZE } from "../../host/protocol/codec.ts";
import { VHOST_USER_REPLY_MASK } from "../../host/protocol/messages.ts";

/** The payload of a reply; undefined for none. */
export type Answer = (request: number, payload: Buffer) => Buffer | undefined;

export class StubBackEnd implements AsyncDisposable {
  readonly socketPath: string;
  /** Requests in the order in which they came. */
  readonly requests: number[] = [];
  private readonly directory = mkdtempSync(join(tmpdir(), "vringd-stub-"));
  private readonly sockets = new Set<Socket>();
  private readonly server: Server;

  private constructor(serve: (socket: Socket, stub: StubBackEnd) => void) {
    this.socketPath = join(this.directory, "stub.sock");
    this.server = createServer((socket) => {
      this.sockets.add(socket);
      socket.on("error", () => {});
      serve(socket, this);
    });
  }

  /** Anything at all, such as silence. */
  static async listen(serve: (socket: Socket, stub: StubBackEnd) => void): Promise<StubBackEnd> {
    const stub = new StubBackEnd(serve);
    await new Promise<void>((resolve) => stub.server.listen(stub.socketPath, resolve));
    return stub;
  }

  /** Speaks the protocol, and answers each request as told. */
  static answering(answer: Answer): Promise<StubBackEnd> {
    return StubBackEnd.listen((socket, stub) => {
      let received = Buffer.alloc(0);
      socket.on("data", (chunk) => {
        received = Buffer.concat([received, chunk]);
        while (received.length >= HEADER_SIZE) {
          const { request, size } = decodeHeader(received);
          if (received.length < HEADER_SIZE + size) return;
          const payload = received.subarray(HEADER_SIZE, HEADER_SIZE + size);
          received = received.subarray(HEADER_SIZE + size);
          stub.requests.push(request);
          const reply = answer(request, payload);
          if (reply !== undefined) socket.write(encodeMessage(request, VHOST_USER_REPLY_MASK, reply));
        }
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Answers of numbers, by request; the others are left unanswered. */
export function numbers(byRequest: Readonly<Record<number, bigint>>): Answer {
  return (request) => {
    const value = byRequest[request];
    return value === undefined ? undefined : encodeU64(value);
  };
}
