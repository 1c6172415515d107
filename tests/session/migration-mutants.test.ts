// Each call that logs, taken out of the core's source: a guest that is moved then is not whole, and the comparison tells.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";
import { type MigrationGuestOptions, moveGuest, randomImage } from "../support/migration-load.ts";
import { tellSeed } from "../support/random.ts";
import { Vringd } from "../support/vringd.ts";

const IMAGE_SIZE = 16 << 20;
/** A missed page may be logged for another reason. */
const TRIES = 5;

interface Mutant {
  file: string;
  /** Must be there, and once. */
  from: string;
  to?: string;
  options?: MigrationGuestOptions;
  isDirect?: true;
}

const MUTANTS: Record<string, Mutant> = {
  "the buffers of reads": {
    file: "block/execute.ts",
    from: "if (isLogging && writesGuest(request)) logVectors(request, 0);",
  },
  "the buffers of reads that go through a bounce buffer": {
    file: "block/execute.ts",
    from: "request.stage === STAGE_TRANSFER || request.stage === STAGE_BOUNCE_COPY;",
    to: "request.stage === STAGE_TRANSFER;",
    options: { isUnaligned: true },
    isDirect: true,
  },
  "status bytes and IDs": {
    file: "virtqueue/guest-memory.ts",
    from: "if (isLogging) logWritten(gpa, span);",
  },
  "what the host writes": {
    file: "virtqueue/guest-memory.ts",
    from: "if (isLogging) logGuestWrites();",
    options: { isLarge: true },
  },
  "pages behind the first": {
    file: "virtqueue/dirty-log.ts",
    from: "if (!isMarked(page)) mark(page);",
  },
  "the used ring": {
    file: "virtqueue/queue.ts",
    from: "logWritten(queue.deviceGpa, USED_FIXED_SIZE + <u64>queue.size * USED_ELEM_SIZE);",
  },
  "a packed ring's descriptors": {
    file: "virtqueue/queue.ts",
    from: "logWritten(queue.descGpa, <u64>queue.size * PACKED_DESC_SIZE);",
    options: { packed: true },
  },
  "a packed ring's event area": {
    file: "virtqueue/queue.ts",
    from: "logWritten(queue.deviceGpa, EVENT_SUPPRESS_SIZE);",
    options: { packed: true },
  },
};

for (const [what, mutant] of Object.entries(MUTANTS)) {
  test(`without ${what} in the log a guest is not moved whole`, { timeout: 300_000 }, async (t) => {
    await using core = await MutantCore.build(mutant);
    let wrong = 0;
    for (let i = 0; i < TRIES && wrong === 0; i++) wrong = (await core.move(t, mutant.options ?? {})).length;
    assert.ok(wrong > 0, "nobody sees that it is missing");
    t.diagnostic(`${wrong} pages`);
  });
}

/** The programs of build/, with a core of their own. */
class MutantCore {
  private constructor(
    private readonly directory: string,
    private readonly daemon: Vringd,
  ) {}

  static async build({ file, from, to = "", isDirect }: Mutant): Promise<MutantCore> {
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    try {
      copyPrograms(directory);
      compileWithout(directory, file, from, to);
      const program = [process.execPath, join(directory, "vringd-blk.mjs")];
      // Asleep when the last batch comes, so that nothing is answered before the kick.
      const args = ["--packed", "--poll-us=0", ...(isDirect ? ["--direct"] : [])];
      const daemon = await Vringd.start({ byteLength: IMAGE_SIZE, program, args, onDisk: isDirect ?? false });
      await daemon.stop();
      writeFileSync(daemon.imagePath, randomImage(IMAGE_SIZE));
      await daemon.restart();
      return new MutantCore(directory, daemon);
    } catch (error) {
      rmSync(directory, { recursive: true });
      throw error;
    }
  }

  async move(t: TestContext, options: MigrationGuestOptions): Promise<number[]> {
    return (await moveGuest(this.daemon.socketPath, tellSeed(t), options)).wrong;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true });
  }
}

/** Not links: a program finds its core beside the file that it really is. */
function copyPrograms(directory: string): void {
  const modules = readdirSync("build").filter((name) => name.endsWith(".mjs"));
  for (const name of modules) cpSync(resolve("build", name), join(directory, name));
  symlinkSync(resolve("node_modules"), join(directory, "node_modules"));
}

/** Not optimised: that takes most of the time, and nothing depends on it. */
function compileWithout(directory: string, file: string, from: string, to: string): void {
  const source = join(directory, "assembly");
  cpSync(resolve("assembly"), source, { recursive: true });
  const path = join(source, file);
  const parts = readFileSync(path, "utf8").split(from);
  assert.equal(parts.length, 2, `${file} holds it ${parts.length - 1} times, not once`);
  writeFileSync(path, parts.join(to));
  const { targets, options } = JSON.parse(readFileSync("asconfig.json", "utf8"));
  const config = join(directory, "asconfig.json");
  writeFileSync(config, JSON.stringify({ targets, options: { ...options, optimizeLevel: 0 } }));
  const args = ["--config", config, "--target", "release", "-o", join(directory, "core.wasm")];
  execFileSync(resolve("node_modules/.bin/asc"), [join(source, "index.ts"), ...args], { stdio: "pipe" });
}
