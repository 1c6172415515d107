// Asks a back-end's program what it can do: other people's code, so bounded in time and output.
import { type ChildProcess, spawn } from "node:child_process";
import {
  type BackendCapabilities,
  type BackendDescription,
  validateCapabilities,
} from "../../build/schemas.js";
import { reasonOf } from "../errors.ts";
import { type Checked, checkJson } from "../json/checked.ts";

const OUTPUT_BYTES_MAX = 64 << 10;
/** What a program that fails says of it: the first line will do. */
const COMPLAINT_BYTES_MAX = 1 << 10;

const asked = new Set<ChildProcess>();
// A signal for us doesn't reach them, since each has a process group of its own.
process.on("exit", () => asked.forEach(kill));

export async function askCapabilities(
  { binary, type }: BackendDescription,
  timeoutMs: number,
): Promise<Checked<BackendCapabilities>> {
  const { value, faults, warnings } = await ask(binary, timeoutMs);
  // It would be started for the wrong device.
  if (value !== undefined && value.type !== type)
    faults.push(`"type" is ${value.type}; the description has ${type}`);
  const ofAnswer = (sentence: string) => `${binary} --print-capabilities: ${sentence}`;
  const answer = { faults: faults.map(ofAnswer), warnings: warnings.map(ofAnswer) };
  return value === undefined || faults.length > 0 ? answer : { ...answer, value };
}

async function ask(binary: string, timeoutMs: number): Promise<Checked<BackendCapabilities>> {
  try {
    return checkJson(await run(binary, timeoutMs), validateCapabilities);
  } catch (error) {
    return { faults: [`it ${(error as Error).message}`], warnings: [] };
  }
}

/** Resolves to what it prints. The message of an Error says what else became of it. */
function run(binary: string, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = start(binary);
    asked.add(child);
    const giveUp = (reason: string) => {
      kill(child);
      // Whatever it left behind must not make us wait: a process in another group may keep the pipes open for ever.
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      reject(new Error(reason));
    };
    const timer = setTimeout(() => giveUp(`gave no answer within ${timeoutMs} ms`), timeoutMs);
    const output = collect(child.stdout, OUTPUT_BYTES_MAX, () =>
      giveUp(`printed more than ${OUTPUT_BYTES_MAX} bytes`),
    );
    const complaint = collect(child.stderr, COMPLAINT_BYTES_MAX);
    child.once("error", (error) => reject(notStarted(error)));
    child.once("close", (status, signal) => {
      clearTimeout(timer);
      kill(child);
      asked.delete(child);
      if (status === 0) resolve(Buffer.concat(output));
      else reject(new Error(`${ending(status, signal)}${firstLine(complaint)}`));
    });
  });
}

function start(binary: string) {
  try {
    return spawn(binary, ["--print-capabilities"], {
      cwd: "/",
      // A process group, so that children of its own end with it.
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    throw notStarted(error);
  }
}

function notStarted(error: unknown): Error {
  return new Error(`can't be started: ${reasonOf(error)}`);
}

/** What comes, up to a bound. What is over it is read and dropped, so that the writer doesn't wait. */
function collect(stream: NodeJS.ReadableStream, bytesMax: number, tooMuch = () => {}): Buffer[] {
  const chunks: Buffer[] = [];
  let room = bytesMax;
  stream.on("data", (chunk: Buffer) => {
    if (chunk.length > room) tooMuch();
    if (room > 0) chunks.push(chunk.subarray(0, room));
    room -= Math.min(room, chunk.length);
  });
  return chunks;
}

function kill(child: ChildProcess): void {
  try {
    process.kill(-child.pid!, "SIGKILL");
  } catch {
    // It has ended, or never began.
  }
}

function ending(status: number | null, signal: NodeJS.Signals | null): string {
  return status === null ? `was ended by ${signal}` : `ended with status ${status}`;
}

function firstLine(complaint: readonly Buffer[]): string {
  const line = String(Buffer.concat(complaint)).trim().split("\n")[0];
  return line === "" ? "" : `: ${line}`;
}
