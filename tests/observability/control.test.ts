// What the control socket says of the disk, and what its clients can't do to it.
import assert from "node:assert/strict";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AVAIL_IDX } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Observed } from "../support/observed.ts";
import { rawSplitRing } from "../support/raw-ring.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, traceLines, whyNoStrace } from "../support/strace.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

for (const engine of ["io_uring", "threads"]) {
  describe(`a daemon with ${engine}`, { timeout: 180_000 }, () => {
    test("counts what each queue did", async () => {
      await using observed = await Observed.start({ args: [`--engine=${engine}`, "--num-queues=4"] });
      await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
      await frontEnd.addQueue();
      await frontEnd.disk(0).write(0, Buffer.alloc(8192));
      await frontEnd.disk(1).read(0, 8);
      await frontEnd.disk(1).read(8, 8);
      await frontEnd.disk(1).flush();
      await frontEnd.disk(1).discard([{ sector: 0, sectors: 8 }]);
      await frontEnd.disk(1).writeZeroes([{ sector: 0, sectors: 8 }]);
      await frontEnd.disk(1).getId();
      const { queues } = await observed.get("/v1/stats");
      const done = queues.map(({ operations, ids }: Queue) => [
        ...Object.values(operations).map(({ requests, bytes }) => [requests, bytes]),
        ids,
      ]);
      const none = [0, 0];
      assert.deepEqual(done, [
        [none, [1, 8192], none, none, none, 0],
        [[2, 8192], none, [1, 0], [1, 0], [1, 0], 1],
        [none, none, none, none, none, 0],
        [none, none, none, none, none, 0],
      ]);
    });

    test("times requests only while somebody looks", async () => {
      await using observed = await Observed.start({ args: [`--engine=${engine}`] });
      await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
      await frontEnd.disk().read(0, 8);
      const first = await observed.get("/v1/stats");
      assert.equal(first.wasTimed, false);
      assert.equal(first.queues[0].operations.read.latency.count, 0);
      const startMs = performance.now();
      for (let i = 0; i < 20; i++) await frontEnd.disk().read(8 * i, 8);
      const tookNs = (performance.now() - startMs) * 1e6;
      const second = await observed.get("/v1/stats");
      assert.equal(second.wasTimed, true);
      const { requests, latency } = second.queues[0].operations.read;
      // The worker slept without a clock when the first of them came.
      assert.ok(requests === 21 && latency.count >= 19 && latency.count <= 20, JSON.stringify(latency));
      assert.ok(latency.sumNs > 0 && latency.sumNs < tookNs);
      assert.ok(latency.p50Ns > 0 && latency.p50Ns <= latency.p99Ns);
      const { write } = second.queues[0].operations;
      assert.deepEqual([write.latency.count, write.latency.p50Ns], [0, null]);
    });

    test("says who is connected, and what its rings are like", async () => {
      await using observed = await Observed.start({
        args: [`--engine=${engine}`, "--packed", "--num-queues=2"],
      });
      const idle = await observed.get("/v1/status");
      assert.equal(idle.frontEnd, null);
      assert.deepEqual(
        idle.rings.map(({ state, size, format }: Ring) => [state, size, format]),
        [
          ["stopped", null, null],
          ["stopped", null, null],
        ],
      );
      await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath, {
        packed: true,
        queueSize: 32,
      });
      await frontEnd.disk().read(0, 8);
      const { frontEnd: connected, rings, disk, ...rest } = await observed.get("/v1/status");
      assert.ok(connected.features.includes("VIRTIO_F_RING_PACKED"));
      assert.ok(connected.features.includes("VHOST_USER_F_PROTOCOL_FEATURES"));
      assert.ok(connected.protocolFeatures.includes("VHOST_USER_PROTOCOL_F_CONFIG"));
      assert.deepEqual([rings[0].state, rings[0].size, rings[0].format], ["running", 32, "packed"]);
      assert.deepEqual([disk.path, disk.sizeBytes], [observed.daemon.imagePath, 64 << 20]);
      assert.deepEqual([rest.engine, rest.pid], [engine, observed.daemon.pid]);
      frontEnd.close();
      await observed.daemon.waitForLog(/front-end left/);
      assert.equal((await observed.get("/v1/status")).frontEnd, null);
    });

    test("says why a ring is broken", async () => {
      await using observed = await Observed.start({ args: [`--engine=${engine}`, "--num-queues=1"] });
      await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
      const queue = frontEnd.queues[0]!;
      rawSplitRing(queue).avail[AVAIL_IDX / 2] = 0x7fff;
      queue.kick(true);
      await observed.daemon.waitForLog(/ring broken/);
      const { rings } = await observed.get("/v1/status");
      assert.equal(rings[0].state, "broken");
      assert.match(rings[0].brokenBecause, /avail index is more than the queue size ahead/);
      assert.equal((await observed.get("/v1/stats")).brokenRings, 1);
    });
  });
}

interface Queue {
  operations: Record<string, { requests: number; bytes: number }>;
  ids: number;
}

interface Ring {
  state: string;
  size: number | null;
  format: string | null;
}

describe("the control socket's file", { timeout: 180_000 }, () => {
  test("is for its owner alone, and goes when the daemon does", async () => {
    await using observed = await Observed.start();
    assert.equal(statSync(observed.controlSocket).mode & 0o777, 0o600);
    assert.equal(await observed.daemon.stop(), 0);
    assert.equal(existsSync(observed.controlSocket), false);
  });

  test("never has a wider mode, whatever the umask", { skip: skipWithout(whyNoStrace()) }, async () => {
    const trace = `/dev/shm/vringd-test-trace-${process.pid}`;
    const under = [
      "sh",
      "-c",
      'umask 0; exec "$@"',
      "sh",
      ...straceTo(trace, "-e", "trace=bind,chmod,fchmod,fchmodat,umask"),
    ];
    await using observed = await Observed.start({ under });
    const calls = traceLines(trace).filter((line) => /bind\(|fchmod\(/.test(line));
    const at = calls.findIndex((line) => line.includes(observed.controlSocket));
    assert.match(calls[at - 1]!, /fchmod\(\d+, 0600\)/);
    assert.equal(statSync(observed.controlSocket).mode & 0o777, 0o600);
  });

  test("of a daemon that was killed is replaced", async () => {
    await using observed = await Observed.start();
    await observed.daemon.kill9();
    assert.equal(existsSync(observed.controlSocket), true);
    await observed.daemon.restart();
    assert.equal((await observed.get("/v1/status")).pid, observed.daemon.pid);
  });

  test("is never taken from a daemon that answers there, nor from another file", async () => {
    await using observed = await Observed.start();
    const inUse = Vringd.start({ args: [`--control-socket=${observed.controlSocket}`] });
    await assert.rejects(inUse, /is in use: another process listens there/);
    const path = `${observed.controlSocket}.txt`;
    writeFileSync(path, "precious");
    await assert.rejects(Vringd.start({ args: [`--control-socket=${path}`] }), /exists and is no socket/);
    assert.equal(statSync(path).size, 8);
  });
});

describe("a client of the control socket", { timeout: 180_000 }, () => {
  /** What it is told before it is thrown out. */
  async function fate(observed: Observed, sent: string): Promise<string> {
    const { client, received } = await open(observed, sent);
    await until(() => client.destroyed, "the client is thrown out", 15_000);
    return received();
  }

  async function open(observed: Observed, sent: string): Promise<{ client: Socket; received: () => string }> {
    const client = connect(observed.controlSocket);
    let text = "";
    client.on("data", (part) => {
      text += part;
    });
    client.on("error", () => {});
    await new Promise((resolve) => client.once("connect", resolve));
    client.write(sent);
    return { client, received: () => text };
  }

  test("that isn't one of HTTP is told so", async () => {
    await using observed = await Observed.start();
    assert.match(
      await fate(observed, "hello\r\n\r\n"),
      /^HTTP\/1\.1 400 .*\{"error":"this is not HTTP"\}\n$/s,
    );
  });

  test("with endless headers is told so", async () => {
    await using observed = await Observed.start();
    const told = await fate(observed, `GET /v1/status HTTP/1.1\r\nHost: x\r\nMore: ${"x".repeat(20_000)}`);
    assert.match(told, /^HTTP\/1\.1 431 /);
  });

  test("that never ends its request is thrown out", async () => {
    await using observed = await Observed.start();
    const head = "PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    assert.match(await fate(observed, head), /^HTTP\/1\.1 408 .*took too long/s);
  });

  test("that leaves in the middle of its request is no loss", async () => {
    await using observed = await Observed.start();
    const head = "PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    for (const ending of ["destroy", "end"] as const) {
      const { client } = await open(observed, head);
      // Its head must have arrived.
      await observed.ask("GET", "/v1/status");
      client[ending]();
      assert.equal((await observed.ask("GET", "/v1/status")).status, 200);
    }
    assert.deepEqual(observed.daemon.linesLike(/ error /), []);
  });

  test("with an endless body is told so, and thrown out", async () => {
    await using observed = await Observed.start();
    const head = "PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    const chunk = `1000\r\n${"x".repeat(4096)}\r\n`;
    assert.match(await fate(observed, head + chunk + chunk), /^HTTP\/1\.1 413 /);
    assert.equal((await observed.ask("GET", "/v1/status")).status, 200);
  });

  test("that says nothing at all is thrown out", async () => {
    await using observed = await Observed.start();
    await fate(observed, "");
  });

  test("can't keep others out for long, however many there are of it", async () => {
    await using observed = await Observed.start();
    const crowd = await Promise.all(Array.from({ length: 64 }, () => open(observed, "GET /v1/sta")));
    await until(() => crowd.every(({ client }) => client.destroyed), "they are thrown out", 20_000);
    assert.equal((await observed.ask("GET", "/v1/status")).status, 200);
  });

  test("that hangs doesn't hold up the end", async () => {
    await using observed = await Observed.start();
    const hanging = [
      await open(observed, ""),
      await open(observed, "GET /v1/sta"),
      await open(observed, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"),
    ];
    await until(() => hanging[2]!.received().includes("uptimeSeconds"), "the last is answered");
    assert.equal(await observed.daemon.stop(), 0);
    assert.ok(existsSync(observed.controlSocket) === false);
  });

  test("doesn't keep the disk from serving, nor do many", async () => {
    await using observed = await Observed.start();
    await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
    const asked = Array.from({ length: 8 }, () => observed.ask("GET", "/v1/stats"));
    const data = Buffer.alloc(4096, 7);
    for (let i = 0; i < 50; i++) {
      await frontEnd.disk().write(8 * i, data);
      assert.deepEqual(await frontEnd.disk().read(8 * i, 8), data);
    }
    for (const { status } of await Promise.all(asked)) assert.equal(status, 200);
  });
});

test("the log's level can be changed while the daemon runs", async () => {
  await using observed = await Observed.start();
  await observed.ask("PUT", "/v1/log-level", '{"level":"debug"}');
  await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
  await observed.daemon.waitForLog(/debug ring started/);
  await observed.ask("PUT", "/v1/log-level", '{"level":"error"}');
  frontEnd.close();
  while ((await observed.get("/v1/status")).frontEnd !== null) await sleep(5);
  assert.deepEqual(observed.daemon.linesLike(/front-end left/), []);
});

test("a disk that is no file has the name that it was given", { timeout: 60_000 }, async () => {
  await using observed = await Observed.start({ blkFile: "memory:64M" });
  assert.equal((await observed.get("/v1/status")).disk.path, "memory:64M");
});
