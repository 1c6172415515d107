// Log lines and a reader that is slow: what a full pipe refuses is counted, and the count is told once the pipe takes lines again.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, mock, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { LogOutput } from "../../host/process/log-output.ts";
import { until } from "../support/until.ts";
import { PROGRAM } from "../support/vringd.ts";

const RETRY_MS = 1000;

/** A pipe that can be full, at both ends of which we are. */
class Pipe {
  readonly fd: number;
  private readonly path: string;

  constructor(directory: string, name: string) {
    this.path = join(directory, name);
    assert.equal(spawnSync("mkfifo", [this.path]).status, 0);
    this.fd = openSync(this.path, constants.O_RDWR | constants.O_NONBLOCK);
  }

  /** What a child makes of its descriptor (that it blocks, at first) is no concern of ours. */
  openForChild(): number {
    return openSync(this.path, constants.O_WRONLY);
  }

  fill(): void {
    for (const size of [4096, 1]) {
      while (this.takes(Buffer.alloc(size, ".")));
    }
  }

  /** All that is in it, without what fill() has put there. */
  read(): string {
    const parts: Buffer[] = [];
    const bytes = Buffer.alloc(65536);
    try {
      for (;;) parts.push(Buffer.from(bytes.subarray(0, readSync(this.fd, bytes))));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, "EAGAIN");
    }
    return Buffer.concat(parts).toString().replace(/^\.+/, "");
  }

  close(): void {
    closeSync(this.fd);
  }

  private takes(bytes: Buffer): boolean {
    try {
      return writeSync(this.fd, bytes) > 0;
    } catch {
      return false;
    }
  }
}

let directory: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
});
after(() => rmSync(directory, { recursive: true }));

describe("lines that a full pipe refuses", () => {
  let pipe: Pipe;
  let output: LogOutput;
  let count = 0;
  beforeEach(() => {
    mock.timers.enable({ apis: ["setInterval"] });
    pipe = new Pipe(directory, `pipe-${count++}`);
    output = new LogOutput(pipe.fd, (count) => `${count} lost\n`);
  });
  afterEach(() => {
    mock.timers.reset();
    pipe.close();
  });

  test("are counted before the next line", () => {
    pipe.fill();
    for (let i = 0; i < 1000; i++) output.write(`line ${i}\n`);
    assert.equal(pipe.read(), "");
    output.write("later\n");
    output.write("later still\n");
    assert.equal(pipe.read(), "1000 lost\nlater\nlater still\n");
  });

  test("are counted although no other line follows", () => {
    pipe.fill();
    output.write("a\n");
    mock.timers.tick(RETRY_MS);
    output.write("b\n");
    pipe.read();
    mock.timers.tick(RETRY_MS);
    assert.equal(pipe.read(), "2 lost\n");
    mock.timers.tick(10 * RETRY_MS);
    assert.equal(pipe.read(), "");
    pipe.fill();
    output.write("c\n");
    pipe.read();
    mock.timers.tick(RETRY_MS);
    assert.equal(pipe.read(), "1 lost\n");
  });

  test("never stand behind half of another", () => {
    const long = `${"x".repeat(100_000)}\n`;
    output.write(long);
    output.write("a\n");
    let text = pipe.read();
    assert.ok(text.length > 0 && text.length < long.length);
    output.write("b\n");
    text += pipe.read();
    assert.equal(text, `${long}1 lost\nb\n`);
  });
});

for (const format of ["text", "json"]) {
  test(`a daemon serves on while nobody reads its log, and says in ${format} what was lost`, async () => {
    const pipe = new Pipe(directory, format);
    const socketPath = join(directory, `${format}.sock`);
    pipe.fill();
    const args = ["--blk-file=memory:1M", `--socket-path=${socketPath}`, `--log-format=${format}`];
    const stderr = pipe.openForChild();
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "ignore", stderr] });
    closeSync(stderr);
    const ended = once(child, "exit");
    try {
      const frontEnd = await FrontEnd.connect(socketPath);
      await frontEnd.disk().read(0, 1);
      let text = pipe.read();
      await until(() => {
        text += pipe.read();
        return text.includes("\n");
      }, "the count is told");
      const [line, ...more] = text.split("\n");
      assert.match(line!, /log lines are lost/);
      const count = format === "json" ? JSON.parse(line!).lines : / warn .* lines=(\d+)$/.exec(line!)?.[1];
      // Among them that the workers have started, and that a front-end has come.
      assert.ok(Number(count) >= 2, line);
      frontEnd.close();
      child.kill("SIGTERM");
      assert.deepEqual(await ended, [0, null]);
      text = more.join("\n") + pipe.read();
      assert.match(text, /stopping/);
      assert.doesNotMatch(text, /log lines are lost/);
    } finally {
      child.kill("SIGKILL");
      pipe.close();
    }
  });
}
