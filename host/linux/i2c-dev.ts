// I2C buses of the host as programs have them: /dev/i2c-N (Documentation/i2c/dev-interface.rst, linux/i2c-dev.h, linux/i2c.h).
import { closeSync, constants, openSync, readdirSync, readFileSync } from "node:fs";
import { EIO, EOPNOTSUPP } from "./errno.ts";
import * as libc from "./libc.ts";
import { callInPool } from "./thread-pool.ts";

const I2C_SLAVE = 0x0703;
const I2C_FUNCS = 0x0705;
const I2C_RDWR = 0x0707;
const I2C_SMBUS = 0x0720;

const I2C_FUNC_I2C = 1;
const I2C_M_RD = 1;

/** struct i2c_msg: addr u16, flags u16, len u16, buf pointer at 8. */
const MSG_SIZE = 16;
/** I2C_RDWR_IOCTL_MAX_MSGS, and the kernel's own limit of each. */
export const I2C_MESSAGES_MAX = 42;
export const I2C_MESSAGE_BYTES_MAX = 8192;

/** Kinds of transfer (linux/i2c.h). */
const SMBUS_QUICK = 0;
const SMBUS_BYTE = 1;
const SMBUS_BYTE_DATA = 2;
const SMBUS_WORD_DATA = 3;
const SMBUS_PROC_CALL = 4;
const SMBUS_I2C_BLOCK_DATA = 8;
/** union i2c_smbus_data: a byte, a word, or a block behind its length. */
const SMBUS_DATA_SIZE = 34;
const SMBUS_BLOCK_MAX = 32;

/** What goes over a bus between one start and the next. */
export interface I2cMessage {
  readonly address: number;
  readonly isRead: boolean;
  /** What is written, or room for what is read. */
  readonly bytes: Uint8Array;
}

/** Addresses of one bus that are ours. */
export class I2cBus {
  private constructor(
    /** By address: the kernel keeps for each open file which address SMBus transfers go to. */
    private readonly clients: ReadonlyMap<number, number>,
    private readonly knowsI2c: boolean,
  ) {}

  /** Throws AddressError, with EBUSY if the kernel has a driver there; else an error with an errno. */
  static open(path: string, addresses: readonly number[]): I2cBus {
    const clients = new Map<number, number>();
    try {
      let functions = 0;
      for (const address of addresses) {
        const fd = openSync(path, constants.O_RDWR);
        clients.set(address, fd);
        functions = functionsOf(fd);
        if (libc.ioctlAt(fd, I2C_SLAVE, address) === -1) throw new AddressError(address, libc.errno());
      }
      return new I2cBus(clients, (functions & I2C_FUNC_I2C) !== 0);
    } catch (error) {
      for (const fd of clients.values()) closeSync(fd);
      throw error;
    }
  }

  /**
   * All messages as one transfer, with a start before each and a stop at the end. An adapter that knows SMBus alone does what is one
   * of its transfers, and refuses all else. Messages are for addresses that are ours; the kernel works on them until it settles.
   */
  transfer(messages: readonly I2cMessage[]): Promise<void> {
    return this.knowsI2c ? this.transferI2c(messages) : this.transferSmbus(messages);
  }

  close(): void {
    for (const fd of this.clients.values()) closeSync(fd);
  }

  private async transferI2c(messages: readonly I2cMessage[]): Promise<void> {
    const table = Buffer.alloc(MSG_SIZE * messages.length);
    for (const [i, { address, isRead, bytes }] of messages.entries()) {
      table.writeUInt16LE(address, i * MSG_SIZE);
      table.writeUInt16LE(isRead ? I2C_M_RD : 0, i * MSG_SIZE + 2);
      table.writeUInt16LE(bytes.length, i * MSG_SIZE + 4);
      table.writeBigUInt64LE(addressOf(bytes), i * MSG_SIZE + 8);
    }
    // struct i2c_rdwr_ioctl_data: msgs pointer, nmsgs u32.
    const request = Buffer.alloc(16);
    request.writeBigUInt64LE(addressOf(table), 0);
    request.writeUInt32LE(messages.length, 8);
    await inThread(this.clients.get(messages[0]!.address)!, I2C_RDWR, request, [table, messages]);
  }

  private async transferSmbus(messages: readonly I2cMessage[]): Promise<void> {
    const transfer = smbusTransferOf(messages);
    if (transfer === undefined) throw new libc.SystemError("ioctl(I2C_SMBUS)", EOPNOTSUPP);
    const { kind, command, data, answer, answerAt } = transfer;
    // struct i2c_smbus_ioctl_data: read_write u8, command u8, size u32 at 4, data pointer at 8.
    const request = Buffer.alloc(16);
    request[0] = Number(transfer.isRead);
    request[1] = command;
    request.writeUInt32LE(kind, 4);
    request.writeBigUInt64LE(addressOf(data), 8);
    await inThread(this.clients.get(messages[0]!.address)!, I2C_SMBUS, request, data);
    // A block has come with its length.
    if (answerAt > 0 && answer && data[0]! < answer.bytes.length)
      throw new libc.SystemError("ioctl(I2C_SMBUS)", EIO);
    answer?.bytes.set(data.subarray(answerAt, answerAt + answer.bytes.length));
  }
}

/** An address can't be had. */
export class AddressError extends Error {
  constructor(
    readonly address: number,
    readonly errno: number,
  ) {
    super();
  }
}

/** The device file of a bus by its number, or by its adapter's name. Undefined: there is none of this name. */
export function i2cBusPath(bus: string): string | undefined {
  const numbered = /^\d+$/.test(bus) ? `i2c-${bus}` : busNames().find((name) => adapterName(name) === bus);
  return numbered && `/dev/${numbered}`;
}

function busNames(): string[] {
  try {
    return readdirSync("/sys/class/i2c-dev");
  } catch {
    return [];
  }
}

function adapterName(bus: string): string | undefined {
  try {
    return readFileSync(`/sys/class/i2c-dev/${bus}/name`, "utf8").trim();
  } catch {
    return undefined;
  }
}

function functionsOf(fd: number): number {
  const answer = Buffer.alloc(8);
  libc.checked("ioctl(I2C_FUNCS)", libc.ioctl(fd, I2C_FUNCS, answer));
  return answer.readUInt32LE(0);
}

interface SmbusTransfer {
  readonly kind: number;
  readonly isRead: boolean;
  readonly command: number;
  readonly data: Buffer;
  /** What gets the bytes that were read, from `answerAt` on. */
  readonly answer?: I2cMessage | undefined;
  readonly answerAt: number;
}

/** The messages as the one transfer of SMBus that puts the same on the bus (Documentation/i2c/smbus-protocol.rst). */
function smbusTransferOf(messages: readonly I2cMessage[]): SmbusTransfer | undefined {
  const [first, second, third] = messages;
  if (first === undefined || third !== undefined || (second && (first.isRead || !second.isRead)))
    return undefined;
  const data = Buffer.alloc(SMBUS_DATA_SIZE);
  const isRead = first.isRead || second !== undefined;
  const kind = smbusKind(first, second);
  if (kind === undefined) return undefined;
  const isBlock = kind === SMBUS_I2C_BLOCK_DATA;
  const [command = 0, ...rest] = first.isRead ? [] : first.bytes;
  data.set(rest, isBlock ? 1 : 0);
  const answer = first.isRead ? first : second;
  if (isBlock) data[0] = answer?.bytes.length ?? rest.length;
  return { kind, isRead, command, data, answer, answerAt: isBlock ? 1 : 0 };
}

function smbusKind(first: I2cMessage, second: I2cMessage | undefined): number | undefined {
  const given = first.bytes.length;
  const asked = second?.bytes.length;
  if (asked === undefined) {
    if (given <= 1) return given === 0 ? SMBUS_QUICK : SMBUS_BYTE;
    if (first.isRead) return undefined;
    if (given <= 3) return given === 2 ? SMBUS_BYTE_DATA : SMBUS_WORD_DATA;
    return given <= SMBUS_BLOCK_MAX + 1 ? SMBUS_I2C_BLOCK_DATA : undefined;
  }
  if (given === 3) return asked === 2 ? SMBUS_PROC_CALL : undefined;
  if (given !== 1 || asked === 0 || asked > SMBUS_BLOCK_MAX) return undefined;
  return asked === 1 ? SMBUS_BYTE_DATA : asked === 2 ? SMBUS_WORD_DATA : SMBUS_I2C_BLOCK_DATA;
}

/** Nothing has no address. */
function addressOf(bytes: Uint8Array): bigint {
  return bytes.length === 0 ? 0n : BigInt(libc.addressOf(bytes));
}

/** A bus takes its time. `held`: what the kernel reads and writes by address. */
async function inThread(fd: number, request: number, argument: Buffer, held: unknown): Promise<unknown> {
  const result = await callInPool(libc.ioctl, fd, request, argument);
  if (result < 0) throw new libc.SystemError("ioctl", -result);
  return held;
}
