// Log lines for a disk that fails: the first of a kind at once, the others by number.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, mock, test } from "node:test";
import { serve } from "vringd";
import { FailureLog } from "../../host/devices/block/failure-log.ts";
import type { DiskFailure } from "../../host/engines/disk-failure.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { type Log, SILENT } from "../../host/process/log.ts";

import { until } from "../support/until.ts";

const WINDOW_MS = 60_000;
const { EIO, ENOSPC, EAGAIN, EOPNOTSUPP } = constants.errno;

type Line = [sentence: string, fields: Record<string, unknown>];

let nowMs = 0;

function failureLog(overlay?: string): { log: FailureLog; lines: Line[] } {
  const lines: Line[] = [];
  const warn = (fields: object | string, sentence?: string) =>
    lines.push([sentence!, fields as Record<string, unknown>]);
  const where = { file: "/srv/disk.img", ...(overlay && { overlay }) };
  return { log: new FailureLog({ ...SILENT, warn } as Log, where, () => nowMs), lines };
}

function failure(more: Partial<DiskFailure> = {}): DiskFailure {
  return { operation: "read", result: -EIO, sector: 2048, count: 1, ...more };
}

function pass(milliseconds: number): void {
  nowMs += milliseconds;
  mock.timers.tick(milliseconds);
}

describe("a disk's failure", () => {
  beforeEach(() => {
    nowMs = 0;
    mock.timers.reset();
    mock.timers.enable({ apis: ["setTimeout"] });
  });

  test("is told at once: what, where, why, and of which file", () => {
    const { log, lines } = failureLog("/srv/changes");
    log.add(failure());
    assert.deepEqual(lines, [
      [
        "a read failed",
        { errno: "EIO", sector: 2048, reason: "i/o error", file: "/srv/disk.img", overlay: "/srv/changes" },
      ],
    ]);
  });

  test("is told at once for each operation and each errno", () => {
    const { log, lines } = failureLog();
    log.add(failure());
    log.add(failure({ result: -ENOSPC }));
    for (const operation of ["write", "flush", "discard", "writeZeroes"] as const)
      log.add(failure({ operation }));
    assert.deepEqual(
      lines.map(([sentence, { errno }]) => `${sentence}: ${errno}`),
      [
        "a read failed: EIO",
        "a read failed: ENOSPC",
        "a write failed: EIO",
        "a flush failed: EIO",
        "a discard failed: EIO",
        "a write-zeroes failed: EIO",
      ],
    );
  });

  test("that is followed by others of its kind has them counted once a minute", () => {
    const { log, lines } = failureLog();
    log.add(failure());
    for (let i = 0; i < 1024; i++) log.add(failure({ sector: 100 + i, count: 2 }));
    assert.equal(lines.length, 1);
    pass(WINDOW_MS);
    const [sentence, { count, seconds, errno, firstSector, file }] = lines[1]!;
    assert.equal(sentence, "more reads failed");
    assert.deepEqual([count, seconds, errno, firstSector, file], [2048, 60, "EIO", 100, "/srv/disk.img"]);
    log.add(failure({ sector: 5 }));
    pass(WINDOW_MS);
    assert.deepEqual([lines.length, lines[2]![1].count, lines[2]![1].firstSector], [3, 1, 5]);
  });

  test("that came with others counts them", () => {
    const { log, lines } = failureLog();
    log.add(failure({ count: 32 }));
    pass(WINDOW_MS);
    assert.deepEqual([lines[1]![1].count, lines[1]![1].firstSector], [31, 2048]);
  });

  test("is the first again after a minute without one", () => {
    const { log, lines } = failureLog();
    log.add(failure());
    pass(WINDOW_MS);
    assert.equal(lines.length, 1);
    log.add(failure({ sector: 7 }));
    assert.deepEqual([lines.length, lines[1]![0], lines[1]![1].sector], [2, "a read failed", 7]);
  });

  test("that was only counted is told at the end", () => {
    const { log, lines } = failureLog();
    log.add(failure());
    log.add(failure());
    log.close();
    assert.equal(lines[1]![1].count, 1);
    pass(10 * WINDOW_MS);
    assert.equal(lines.length, 2);
  });

  test("without an errno is an I/O error, and says what happened", () => {
    const { log, lines } = failureLog();
    log.add(failure({ result: 0 }));
    log.add(failure({ operation: "write", result: 0 }));
    log.add(
      failure({ operation: "flush", result: -4000, sector: undefined, error: new Error("no such luck") }),
    );
    assert.deepEqual(
      lines.map(([, { errno, reason }]) => [errno, reason]),
      [
        ["EIO", "the file ends before that: it has become shorter than the disk"],
        ["EIO", "nothing was written"],
        ["EIO", "no such luck"],
      ],
    );
    assert.ok(!("sector" in lines[2]![1]));
  });

  test("has the errno's usual name", () => {
    const { log, lines } = failureLog();
    log.add(failure({ result: -EAGAIN }));
    log.add(failure({ result: -EOPNOTSUPP }));
    assert.deepEqual(
      lines.map(([, { errno }]) => errno),
      ["EAGAIN", "EOPNOTSUPP"],
    );
  });
});

for (const engine of ["io_uring", "threads"] as const) {
  test(`a server of the library tells failures of a file, by ${engine}`, { timeout: 120_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    try {
      const path = join(directory, "disk.img");
      writeFileSync(path, Buffer.alloc(1 << 20));
      const lines: unknown[] = [];
      const log = { ...SILENT, warn: (fields: object | string) => lines.push(fields) } as Log;
      await using server = await serve({ disk: { path }, socketPath: join(directory, "s"), engine, log });
      const failed: [string, unknown][] = [];
      server.on("requestFailed", (operation, error) => failed.push([operation, error]));
      await using frontEnd = await FrontEnd.connect(join(directory, "s"));
      truncateSync(path, 4096);
      await assert.rejects(frontEnd.disk().read(64, 1));
      const [operation, error] = await until(() => failed[0], "the failure is told");
      assert.deepEqual([operation, (error as { code: string }).code], ["read", "EIO"]);
      const { errno, sector, file } = lines[0] as Record<string, unknown>;
      assert.deepEqual([errno, sector, file], ["EIO", 64, path]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}
