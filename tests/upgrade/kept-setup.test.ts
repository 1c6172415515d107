// A daemon that is killed while a front-end says what it has to say: it goes on with whoever is started next, or sees the end of its
// connection. It never waits in vain.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Memory } from "../../host/front-end/memory.ts";
import { Disconnected, openConnection } from "../../host/front-end/requests.ts";
import { Connection } from "../../host/protocol/connection.ts";
import { DescriptorKeeper } from "../support/descriptor-keeper.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { whyNoStrace } from "../support/strace.ts";
import { Vringd } from "../support/vringd.ts";

const KILLS = Number(process.env.VRINGD_TEST_STORE_KILLS ?? 2);
/** A process starts after each, which takes its time on a busy machine. */
const KILL_MS_MAX = 10_000;
/** That it has for it. */
const ANSWER_MS = 60_000;

/** Does something beside each message. */
class SteppedConnection extends Connection {
  messages = 0;

  constructor(
    fd: number,
    private readonly step: (send: () => Promise<void>, message: number) => Promise<void>,
  ) {
    super(fd);
  }

  override send(bytes: Buffer, fds: readonly number[] = []): Promise<void> {
    return this.step(() => super.send(bytes, fds), this.messages++);
  }
}

async function setUp(frontEnd: FrontEnd, packed: boolean): Promise<void> {
  await frontEnd.negotiate({ packed, queues: 2 });
  await frontEnd.trackInflight(2);
  await frontEnd.shareMemory(new Memory());
  await frontEnd.addQueue();
  await frontEnd.addQueue();
  await frontEnd.disk(0).write(0, Buffer.alloc(512, 1));
  await frontEnd.disk(1).read(0, 8);
  const base = await frontEnd.stopQueue(0);
  await frontEnd.startQueue(0, base);
  await frontEnd.disk(0).read(0, 8);
}

/** How many messages that takes. */
const MESSAGES = 32;

describe("a daemon is killed during the set-up", {
  timeout: 60_000 + KILLS * KILL_MS_MAX,
  concurrency: 2,
}, () => {
  for (const packed of [false, true])
    test(`between two messages: the front-end goes on, on ${packed ? "packed" : "split"} rings`, async (t) => {
      const random = tellSeed(t);
      const steps = someOf(MESSAGES, random);
      await withDaemon(async (daemon, keeper) => {
        const connection = await stepped(keeper, async (send, message) => {
          if (steps.has(message)) {
            await keeper.isSettled();
            await daemon.kill9();
            await daemon.restart();
          }
          await send();
        });
        await using frontEnd = new FrontEnd(connection);
        frontEnd.replyTimeoutMs = ANSWER_MS;
        await setUp(frontEnd, packed);
        assert.equal(connection.messages, MESSAGES);
        assert.equal(await daemon.stop(), 0);
        assert.deepEqual(keeper.names, []);
      });
    });

  test("while it serves a message, read and not answered: the connection is closed", {
    skip: skipWithout(whyNoStrace()),
  }, async () => {
    await withDaemon(async (daemon, keeper) => {
      await using frontEnd = await FrontEnd.connect(keeper.path, { inflight: true });
      for (const ask of [() => frontEnd.getFeatures(), () => frontEnd.stopQueue(0)]) {
        await keeper.isSettled();
        await killAtNextAnswer(daemon);
        const refused = assert.rejects(ask(), Disconnected);
        await daemon.end();
        await daemon.restart();
        await daemon.waitForLog(/reason="the process that had it has died amid one of its requests"/);
        await refused;
        await frontEnd.reconnect(keeper.path);
        await frontEnd.disk().read(0, 8);
      }
    });
  });
});

async function killAtNextAnswer({ pid }: Vringd): Promise<void> {
  const inject = ["-e", "trace=sendmsg", "-e", "inject=sendmsg:signal=KILL:when=1"];
  const strace = spawn("strace", ["-o", "/dev/null", ...inject, "-p", String(pid)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  await once(strace.stderr, "data");
}

function someOf(count: number, random: Random): Set<number> {
  const steps = new Set<number>();
  while (steps.size < Math.min(KILLS, count)) steps.add(random.below(count));
  return steps;
}

async function stepped(
  { path }: DescriptorKeeper,
  step: (send: () => Promise<void>, message: number) => Promise<void>,
): Promise<SteppedConnection> {
  const { fd } = await openConnection(path);
  return new SteppedConnection(fd, step);
}

async function withDaemon(
  action: (daemon: Vringd, keeper: DescriptorKeeper) => Promise<void>,
): Promise<void> {
  const keeper = new DescriptorKeeper();
  try {
    await using daemon = await Vringd.start({ args: ["--packed"], handedDown: () => keeper.handedDown() });
    await action(daemon, keeper).catch((error: Error) => {
      throw new Error(`${error.message}\nThe daemon's log:\n${daemon.log.join("\n")}`, { cause: error });
    });
  } finally {
    keeper.close();
  }
}
