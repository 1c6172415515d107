// uring.ts: the rings of io_uring, with an engine that takes and posts entries one by one.

import {
  consumeCqe,
  hasSqeRoom,
  peekCqe,
  publishSqes,
  pushSqe,
  returnCqes,
  unsubmitted,
} from "../../assembly/io/uring.ts";
import { CQE_RES, CQE_USER_DATA, IORING_OP_WRITE, RWF_DSYNC } from "../../assembly/spec/io-uring.ts";
import { CQ_HEAD, openEngine, postCqe, SQ_HEAD, SQ_TAIL, sqeAt, takeSqes } from "./support.ts";

function pushNumbered(userData: u64): void {
  pushSqe(IORING_OP_WRITE, 5, 0, 0, 0, 0, userData);
}

describe("the submission ring", () => {
  beforeEach(() => {
    openEngine(4, 8, 0);
  });

  test("An entry holds each field at the kernel's offset.", () => {
    pushSqe(
      IORING_OP_WRITE,
      -7,
      0x123456789abcdef0,
      0xfedcba9876543210,
      0x89abcdef,
      RWF_DSYNC,
      0x0f1e2d3c4b5a6978,
    );
    const sqe = sqeAt(0);
    expect<u32>(sqe.opcode).toBe(IORING_OP_WRITE);
    expect(sqe.fd).toBe(-7);
    expect(sqe.offset).toBe(0x123456789abcdef0);
    expect(sqe.address).toBe(0xfedcba9876543210);
    expect(sqe.length).toBe(0x89abcdef);
    expect(sqe.opFlags).toBe(RWF_DSYNC);
    expect(sqe.userData).toBe(0x0f1e2d3c4b5a6978);
  });

  test("Flags and priority of an entry are zero, whatever its descriptor.", () => {
    sqeAt(0).flags = 0xff;
    sqeAt(0).ioprio = 0xffff;
    pushSqe(IORING_OP_WRITE, -1, 0, 0, 0, 0, 0);
    expect(sqeAt(0).flags).toBe(0);
    expect(sqeAt(0).ioprio).toBe(0);
  });

  test("The engine sees no entry before they are published.", () => {
    pushNumbered(1);
    expect(load<u32>(SQ_TAIL)).toBe(0);
  });

  test("One publish shows all that was pushed.", () => {
    pushNumbered(1);
    pushNumbered(2);
    publishSqes();
    expect(load<u32>(SQ_TAIL)).toBe(2);
  });

  test("Publishing tells how many entries wait for the engine.", () => {
    pushNumbered(1);
    pushNumbered(2);
    expect(publishSqes()).toBe(2);
    takeSqes(1);
    expect(publishSqes()).toBe(1);
  });

  test("Entries that were pushed but not published count as unsubmitted.", () => {
    pushNumbered(1);
    expect(unsubmitted()).toBe(1);
  });

  test("There is room for as many entries as the ring has.", () => {
    for (let i = 0; i < 4; i++) {
      expect(hasSqeRoom()).toBe(true);
      pushNumbered(i);
    }
    expect(hasSqeRoom()).toBe(false);
  });

  test("An entry that the engine has taken makes room for one more.", () => {
    for (let i = 0; i < 4; i++) pushNumbered(i);
    publishSqes();
    takeSqes(1);
    expect(hasSqeRoom()).toBe(true);
    pushNumbered(4);
    expect(hasSqeRoom()).toBe(false);
  });

  test("The entry behind the last goes to the first place.", () => {
    for (let i = 0; i < 4; i++) pushNumbered(i);
    publishSqes();
    takeSqes();
    pushNumbered(77);
    expect(sqeAt(0).userData).toBe(77);
    expect(sqeAt(1).userData).toBe(1);
  });
});

describe("the submission ring at the end of its indices", () => {
  beforeEach(() => {
    openEngine(4, 8, 0xfffffffe);
  });

  test("Pushing goes on where the tail stands.", () => {
    pushNumbered(9);
    publishSqes();
    expect(load<u32>(SQ_TAIL)).toBe(0xffffffff);
    expect(sqeAt(2).userData).toBe(9);
  });

  test("The tail wraps at 2^32.", () => {
    for (let i = 0; i < 3; i++) pushNumbered(i);
    expect(publishSqes()).toBe(3);
    expect(load<u32>(SQ_TAIL)).toBe(1);
  });

  test("A full ring is full across the wrap as well.", () => {
    for (let i = 0; i < 4; i++) pushNumbered(i);
    expect(hasSqeRoom()).toBe(false);
    publishSqes();
    takeSqes();
    expect(load<u32>(SQ_HEAD)).toBe(2);
    expect(unsubmitted()).toBe(0);
  });

  test("Completions are found across the wrap.", () => {
    for (let i = 0; i < 3; i++) postCqe(i, i);
    for (let i = 0; i < 3; i++) {
      expect(load<u64>(peekCqe(), CQE_USER_DATA)).toBe(i);
      consumeCqe();
    }
    returnCqes();
    expect(peekCqe()).toBe(0);
    expect(load<u32>(CQ_HEAD)).toBe(1);
  });
});

describe("the completion ring", () => {
  beforeEach(() => {
    openEngine(4, 8, 0);
  });

  test("An empty ring has no next completion.", () => {
    expect(peekCqe()).toBe(0);
  });

  test("A completion carries user data and result.", () => {
    postCqe(0x1122334455667788, -5);
    const cqe = peekCqe();
    expect(load<u64>(cqe, CQE_USER_DATA)).toBe(0x1122334455667788);
    expect(load<i32>(cqe, CQE_RES)).toBe(-5);
  });

  test("Looking at a completion leaves it in its place.", () => {
    postCqe(1, 0);
    expect(peekCqe()).toBe(peekCqe());
    expect(load<u32>(CQ_HEAD)).toBe(0);
  });

  test("The places of consumed completions are given back together.", () => {
    postCqe(1, 0);
    postCqe(2, 0);
    consumeCqe();
    consumeCqe();
    expect(load<u32>(CQ_HEAD)).toBe(0);
    returnCqes();
    expect(load<u32>(CQ_HEAD)).toBe(2);
    expect(peekCqe()).toBe(0);
  });

  test("Completions come in the order in which they were posted, lap after lap.", () => {
    for (let i: u64 = 0; i < 30; i++) {
      postCqe(i, 0);
      expect(load<u64>(peekCqe(), CQE_USER_DATA)).toBe(i);
      consumeCqe();
    }
  });

  test("All entries of a full ring are found.", () => {
    for (let i: u64 = 0; i < 8; i++) postCqe(i, 0);
    for (let i: u64 = 0; i < 8; i++) {
      expect(load<u64>(peekCqe(), CQE_USER_DATA)).toBe(i);
      consumeCqe();
    }
    expect(peekCqe()).toBe(0);
  });
});
