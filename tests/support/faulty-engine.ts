// An engine that serves the core from a real file, badly: out of order, late, in parts, with errors, or never. It keeps
// its own account of each request, holds every operation against it, and so knows how the request must end.
import assert from "node:assert/strict";
import { ftruncateSync, readSync, writeSync } from "node:fs";
import {
  EAGAIN,
  EINTR,
  EOPNOTSUPP,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITEV,
} from "../../assembly/spec/io-uring.ts";
import { SECTOR_SIZE, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "../../assembly/spec/virtio-blk.ts";
import { type CoreHarness, DATA_GPA, DATA_PTR, DATA_SIZE, type Operation } from "./core-harness.ts";
import type { Random } from "./random.ts";
import { dataGpa, type Outcome, type ScriptedDriver } from "./scripted-driver.ts";
import type { Kind } from "./scripted-requests.ts";

/** As in the core: so often in a row the kernel may ask for a retry. */
const RETRIES_MAX = 64;

/** EIO, ENXIO, ENOMEM, EFAULT, EROFS, ENOSPC, EDQUOT. */
const ERRORS = [5, 6, 12, 14, 30, 28, 122];

const VECTORED = [IORING_OP_READV, IORING_OP_WRITEV];

/** A request as far as it has come. */
interface Account {
  serial: number;
  kind: Kind;
  moved: number;
  retries: number;
  /** A range that the file can't zero is written instead. */
  isZeroing: boolean;
  /** Its operations are never answered until the end. */
  isForgotten: boolean;
  status: number | undefined;
}

export interface EngineTotals {
  operations: number;
  retries: number;
  shorts: number;
  failures: number;
  /** Those of which the core lost its patience. */
  abandoned: number;
  forgotten: number;
}

export class FaultyEngine {
  readonly totals: EngineTotals = {
    operations: 0,
    retries: 0,
    shorts: 0,
    failures: 0,
    abandoned: 0,
    forgotten: 0,
  };
  private readonly accounts = new Map<number, Account>();
  private readonly bySlot = new Map<number, Account>();

  /** `retryPercent`: of all answers, those that ask for a retry. */
  constructor(
    private readonly core: CoreHarness,
    private readonly driver: ScriptedDriver,
    private readonly fd: number,
    private readonly random: Random,
    private readonly retryPercent: number,
  ) {
    driver.outcomeOf = this.outcomeOf;
  }

  /** An operation has come: it must be what its request needs next, and nothing more. */
  readonly take = (operation: Operation): void => {
    this.totals.operations++;
    const account = this.accountOf(operation);
    const { serial, kind, moved, isZeroing } = account;
    const name = `request ${serial} (${kind.name})`;
    assert.equal(account.status, undefined, `${name} goes on after its end`);
    if (operation.opcode === IORING_OP_FSYNC) return;
    assert.equal(operation.offset, serial * SECTOR_SIZE + moved, name);
    if (operation.opcode === IORING_OP_FALLOCATE || isZeroing) return;
    this.checkBuffers(operation, account);
  };

  /** Answers one operation, any of them, in any way. False if there is none to answer. */
  answerOne(): boolean {
    const { operations } = this.core;
    const candidates = operations.filter(({ index }) => !this.bySlot.get(index)!.isForgotten);
    if (candidates.length === 0) return false;
    const operation = this.random.pick(candidates);
    this.core.complete(operations.indexOf(operation), this.resultOf(operation));
    return true;
  }

  /** Remembers one that it had forgotten. */
  remember(): void {
    const [operation] = this.core.operations;
    if (operation !== undefined) this.bySlot.get(operation.index)!.isForgotten = false;
  }

  /** A slot of the core's has one request at a time. Of a new one the offset tells whose it is; flushes come in order. */
  private accountOf(operation: Operation): Account {
    const known = this.bySlot.get(operation.index);
    if (known !== undefined && known.status === undefined) return known;
    const next = this.driver
      .outstanding()
      .filter(({ serial }) => !this.accounts.has(serial))
      .find(({ serial, kind }) =>
        operation.opcode === IORING_OP_FSYNC
          ? kind.opcode === IORING_OP_FSYNC
          : serial === Math.floor(operation.offset / SECTOR_SIZE),
      );
    assert.ok(next !== undefined, `nobody asked for opcode ${operation.opcode} at ${operation.offset}`);
    const account = this.open(next.serial, next.kind);
    this.bySlot.set(operation.index, account);
    return account;
  }

  private open(serial: number, kind: Kind): Account {
    const isForgotten = this.random.below(40) === 0;
    if (isForgotten) this.totals.forgotten++;
    const start = { moved: 0, retries: 0, isZeroing: false, status: undefined };
    const account = { serial, kind, isForgotten, ...start };
    this.accounts.set(serial, account);
    return account;
  }

  private checkBuffers(operation: Operation, { serial, kind, moved }: Account): void {
    const buffers = this.core.buffersOf(operation, VECTORED);
    const expected: [number, number][] = [];
    let skipped = moved;
    for (const { where, offset, length } of kind.buffers) {
      if (where !== "data") continue;
      const skip = Math.min(skipped, length);
      skipped -= skip;
      if (skip < length) expected.push([dataGpa(serial) + offset + skip, length - skip]);
    }
    assert.deepEqual(buffers, expected, `request ${serial} (${kind.name}) after ${moved} bytes`);
  }

  private resultOf(operation: Operation): number {
    const account = this.bySlot.get(operation.index)!;
    if (this.random.below(100) < this.retryPercent) return this.askAgain(account);
    account.retries = 0;
    if (this.random.below(20) === 0) return this.fail(account);
    if (operation.opcode === IORING_OP_FSYNC) return this.succeed(account);
    if (operation.opcode === IORING_OP_FALLOCATE) return this.zero(account);
    return this.transfer(operation, account);
  }

  private askAgain(account: Account): number {
    this.totals.retries++;
    if (++account.retries > RETRIES_MAX) {
      this.totals.abandoned++;
      account.status = VIRTIO_BLK_S_IOERR;
    }
    return -this.random.pick([EINTR, EAGAIN]);
  }

  private fail(account: Account): number {
    this.totals.failures++;
    account.status = VIRTIO_BLK_S_IOERR;
    return -this.random.pick(ERRORS);
  }

  private succeed(account: Account): number {
    account.status = VIRTIO_BLK_S_OK;
    return 0;
  }

  private zero(account: Account): number {
    if (this.random.below(2) === 0) {
      account.isZeroing = true;
      return -EOPNOTSUPP;
    }
    writeSync(this.fd, Buffer.alloc(SECTOR_SIZE), 0, SECTOR_SIZE, account.serial * SECTOR_SIZE);
    return this.succeed(account);
  }

  /** All that is left, a part of it, or nothing. */
  private transfer(operation: Operation, account: Account): number {
    const remaining = SECTOR_SIZE - account.moved;
    const count = this.random.below(3) > 0 ? remaining : this.random.below(remaining + 1);
    if (count === 0) {
      this.fail(account);
      return 0;
    }
    if (count < remaining) this.totals.shorts++;
    let left = count;
    for (const [bytes, length] of this.placesOf(operation, account)) {
      const part = Math.min(left, length);
      const at = account.serial * SECTOR_SIZE + account.moved;
      const isRead = operation.opcode === IORING_OP_READ || operation.opcode === IORING_OP_READV;
      if (isRead) readSync(this.fd, bytes, 0, part, at);
      else writeSync(this.fd, bytes, 0, part, at);
      account.moved += part;
      left -= part;
    }
    if (account.moved === SECTOR_SIZE) account.status = VIRTIO_BLK_S_OK;
    return count;
  }

  private placesOf(operation: Operation, { isZeroing, moved }: Account): [Uint8Array, number][] {
    const zeroes = SECTOR_SIZE - moved;
    if (isZeroing) return [[new Uint8Array(zeroes), zeroes]];
    return this.core
      .buffersOf(operation, VECTORED)
      .map(([gpa, length]) => [dataAt(this.core, gpa, length), length]);
  }

  /** What the driver must see; and the data must be where it was to go. */
  private readonly outcomeOf: Outcome = (kind, serial) => {
    const status = kind.opcode === undefined ? kind.status : this.accounts.get(serial)?.status;
    if (kind.opcode !== undefined) assert.notEqual(status, undefined, `request ${serial} ended too early`);
    if (status === VIRTIO_BLK_S_OK && kind.opcode !== undefined) this.checkData(kind, serial);
    this.accounts.delete(serial);
    return { status, length: status === VIRTIO_BLK_S_OK ? kind.length : Math.min(kind.length, 1) };
  };

  private checkData(kind: Kind, serial: number): void {
    if (kind.opcode === IORING_OP_FSYNC) return;
    const stored = Buffer.alloc(SECTOR_SIZE);
    readSync(this.fd, stored, 0, SECTOR_SIZE, serial * SECTOR_SIZE);
    const parts = kind.buffers.filter(({ where }) => where === "data");
    const expected =
      kind.opcode === IORING_OP_FALLOCATE
        ? Buffer.alloc(SECTOR_SIZE)
        : Buffer.concat(parts.map((part) => dataAt(this.core, dataGpa(serial) + part.offset, part.length)));
    assert.ok(stored.equals(expected), `request ${serial} (${kind.name}) has other data`);
  }
}

/** Guest memory at an address of the part that the core never touches. */
export function dataAt(core: CoreHarness, gpa: number, length: number): Uint8Array {
  assert.ok(gpa >= DATA_GPA && gpa + length <= DATA_GPA + DATA_SIZE, `${length} bytes at ${gpa} are no data`);
  const ptr = DATA_PTR + (gpa - DATA_GPA);
  return core.bytes.subarray(ptr, ptr + length);
}

/** Room for so many requests, each in a sector of its own. */
export function fillImage(fd: number, sectors: number, random: Random): void {
  ftruncateSync(fd, 0);
  writeSync(fd, random.bytes(sectors * SECTOR_SIZE));
}
