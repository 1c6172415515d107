// Fixed newstyle negotiation (doc/proto.md, "Handshake"): from the server's greeting to an export that is ready for requests.
import type { ConnectionOptions } from "node:tls";
import { ByteReader } from "./byte-reader.ts";
import { ConnectionError, HungUpError } from "./errors.ts";
import {
  IHAVEOPT,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_STARTTLS,
  NBD_REP_ACK,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBDMAGIC,
  NO_MAXIMUM,
  OLDSTYLE_MAGIC,
  OPTION_REPLY_MAGIC,
} from "./protocol.ts";
import type { Wire } from "./wire.ts";

/** What the server says of an export. */
export interface ExportInfo {
  byteLength: bigint;
  /** Transmission flags. */
  flags: number;
  /** Offsets and lengths must be multiples of this: a power of two, up to 65,536. */
  minimumBlock: number;
  /** Bytes that a request may have; NO_MAXIMUM: as many as fit. */
  maximumBlock: number;
}

/** No option's reply needs as many bytes: whoever announces more means harm. */
const REPLY_MAX = 64 << 10;
/** With which a server without limits of its own is used ("Block size constraints"). */
const NO_CONSTRAINTS = { minimumBlock: 1, maximumBlock: NO_MAXIMUM };
const MINIMUM_BLOCK_MAX = 1 << 16;
const RESERVED_ZEROES = 124;
const MESSAGE_SHOWN = 200;

interface OptionReply {
  type: number;
  data: Buffer;
}

/** Leads to the transmission phase. Rejects with a ConnectionError that says why it doesn't. */
export async function shakeHands(
  wire: Wire,
  exportName: string,
  tls: ConnectionOptions | undefined,
): Promise<ExportInfo> {
  const greeting = new Handshake(wire);
  const flags = await greeting.greet();
  const isFixed = (flags & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
  let handshake = greeting;
  if (tls) {
    if (!isFixed) throw new ConnectionError("the server has no TLS");
    await greeting.startTls();
    await wire.secure(tls);
    handshake = new Handshake(wire);
  }
  // "This is the only valid option in nonfixed newstyle negotiation" (NBD_OPT_EXPORT_NAME).
  const info = isFixed ? await handshake.go(exportName).catch((error) => explained(error, tls)) : undefined;
  const found = info ?? (await handshake.exportByName(exportName, flags));
  handshake.finish();
  return checked(found);
}

/** With TLS 1.3 a server that misses our certificate hangs up after the handshake, without a word. */
function explained(error: Error, tls: ConnectionOptions | undefined): never {
  const mayWantCertificate =
    tls !== undefined && !tls.cert && !tls.pskCallback && error instanceof HungUpError;
  throw mayWantCertificate
    ? new ConnectionError(`${error.message}; it may want a client certificate`)
    : error;
}

class Handshake {
  private readonly reader = new ByteReader();

  constructor(private readonly wire: Wire) {
    wire.deliverTo(this.reader);
  }

  /** The server's handshake flags, once they are answered. */
  async greet(): Promise<number> {
    const greeting = await this.reader.read(16);
    if (greeting.readBigUInt64BE(0) !== NBDMAGIC) throw new ConnectionError("this is no NBD server");
    const style = greeting.readBigUInt64BE(8);
    if (style === OLDSTYLE_MAGIC)
      throw new ConnectionError(
        "the server speaks oldstyle NBD, which has no export names; start it as newstyle",
      );
    if (style !== IHAVEOPT) throw new ConnectionError("this is no NBD server");
    const flags = (await this.reader.read(2)).readUInt16BE();
    // Each of ours has the bit of the server's that it answers.
    const answer = flags & (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    this.wire.write([u32(answer)]);
    return flags;
  }

  async startTls(): Promise<void> {
    this.sendOption(NBD_OPT_STARTTLS);
    const { type, data } = await this.reply(NBD_OPT_STARTTLS);
    if (type !== NBD_REP_ACK) throw refused("the server has no TLS", data);
    // Else somebody on the way could put words of his own before those that are encrypted.
    if (this.reader.leftover > 0) throw new ConnectionError("the server sent more before TLS had begun");
  }

  /** Undefined if the server doesn't know this option. */
  async go(exportName: string): Promise<ExportInfo | undefined> {
    const name = Buffer.from(exportName);
    this.sendOption(NBD_OPT_GO, u32(name.length), name, u16(1), u16(NBD_INFO_BLOCK_SIZE));
    const info: Partial<ExportInfo> = {};
    for (;;) {
      const { type, data } = await this.reply(NBD_OPT_GO);
      if (type === NBD_REP_INFO) readInfo(data, info);
      else if (type === NBD_REP_ERR_UNSUP) return undefined;
      else if (type !== NBD_REP_ACK) throw exportRefused(exportName, type, data);
      else if (info.byteLength === undefined)
        throw new ConnectionError("the server didn't tell the export's size");
      else return { ...NO_CONSTRAINTS, ...(info as ExportInfo) };
    }
  }

  /** The older way, in which a refusal has no words. */
  async exportByName(exportName: string, handshakeFlags: number): Promise<ExportInfo> {
    this.sendOption(NBD_OPT_EXPORT_NAME, Buffer.from(exportName));
    const answer = await this.reader.read(10).catch(() => {
      throw new ConnectionError(`the server hung up when asked for the export "${exportName}"`);
    });
    if ((handshakeFlags & NBD_FLAG_NO_ZEROES) === 0) await this.reader.read(RESERVED_ZEROES);
    return { byteLength: answer.readBigUInt64BE(0), flags: answer.readUInt16BE(8), ...NO_CONSTRAINTS };
  }

  finish(): void {
    if (this.reader.leftover > 0) throw new ConnectionError("the server answered before it was asked");
  }

  private sendOption(option: number, ...data: readonly Buffer[]): void {
    const bytes = Buffer.concat(data);
    this.wire.write([Buffer.concat([u64(IHAVEOPT), u32(option), u32(bytes.length), bytes])]);
  }

  private async reply(option: number): Promise<OptionReply> {
    const header = await this.reader.read(20);
    if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC)
      throw new ConnectionError("the server's reply isn't NBD");
    if (header.readUInt32BE(8) !== option) throw new ConnectionError("the server answered what wasn't asked");
    const byteLength = header.readUInt32BE(16);
    if (byteLength > REPLY_MAX)
      throw new ConnectionError(`the server announced a reply of ${byteLength} bytes`);
    return { type: header.readUInt32BE(12), data: await this.reader.read(byteLength) };
  }
}

function readInfo(data: Buffer, info: Partial<ExportInfo>): void {
  const type = data.length < 2 ? undefined : data.readUInt16BE(0);
  if (type === NBD_INFO_EXPORT && data.length === 12) {
    info.byteLength = data.readBigUInt64BE(2);
    info.flags = data.readUInt16BE(10);
  } else if (type === NBD_INFO_BLOCK_SIZE && data.length === 14) {
    info.minimumBlock = data.readUInt32BE(2);
    info.maximumBlock = data.readUInt32BE(10);
  } else if (type === undefined || type === NBD_INFO_EXPORT || type === NBD_INFO_BLOCK_SIZE) {
    throw new ConnectionError("the server's description of the export has the wrong length");
  }
  // "The client MUST ignore information replies it does not understand."
}

/** A server that contradicts the specification here would make us ask for what isn't there. */
function checked(info: ExportInfo): ExportInfo {
  const { byteLength, flags, minimumBlock, maximumBlock } = info;
  if ((flags & NBD_FLAG_HAS_FLAGS) === 0)
    throw new ConnectionError("the server's transmission flags are wrong");
  if (byteLength >= 1n << 63n)
    throw new ConnectionError(`the server says that the export has ${byteLength} bytes`);
  if (!isPowerOfTwo(minimumBlock) || minimumBlock > MINIMUM_BLOCK_MAX)
    throw new ConnectionError(`the server says that its blocks have at least ${minimumBlock} bytes`);
  const hasMaximum = maximumBlock !== NO_MAXIMUM;
  if (maximumBlock === 0 || (hasMaximum && maximumBlock % minimumBlock !== 0))
    throw new ConnectionError(`the server says that its blocks have at most ${maximumBlock} bytes`);
  return info;
}

function exportRefused(exportName: string, type: number, data: Buffer): ConnectionError {
  const name = exportName === "" ? "the default export" : `the export "${exportName}"`;
  if (type === NBD_REP_ERR_TLS_REQD)
    return refused(`the server wants TLS for ${name}: use nbds:// or nbds+unix://`, data);
  if (type === NBD_REP_ERR_UNKNOWN) return refused(`the server doesn't have ${name}`, data);
  if (type === NBD_REP_ERR_SHUTDOWN) return new ConnectionError("the server is shutting down");
  return refused(`the server refuses ${name}`, data);
}

/** An error's data is a message for people, which may be anything: one line of what can be printed. */
function refused(what: string, message: Buffer): ConnectionError {
  const text = message
    .toString("utf8", 0, MESSAGE_SHOWN)
    .replace(/\p{Cc}+/gu, " ")
    .trim();
  return new ConnectionError(text === "" ? what : `${what} ("${text}")`);
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
