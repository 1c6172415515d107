// `vringd bench`: comes to the back-end, puts the load on it, and tells what came of it.
import { createCipheriv } from "node:crypto";
import { constants } from "node:os";
import { STATUS_FAILED } from "../../command-line/program.ts";
import { StartError } from "../../errors.ts";
import type { FrontEnd } from "../../front-end/front-end.ts";
import { Attachment } from "../../front-end/load/attachment.ts";
import { RingDriver } from "../../front-end/load/ring-driver.ts";
import { DeviceFault, Rounds } from "../../front-end/load/rounds.ts";
import { readOwnFile } from "../../process/own-files.ts";
import { withFrontEnd } from "../attach.ts";
import { diskOf } from "../probe/disk-of.ts";
import { complain, printJson, printLines } from "../terminal.ts";
import type { BenchOptions } from "./command.ts";
import { LiveLine } from "./live-line.ts";
import { checkUsage, type Plan, planFor, writes } from "./plan.ts";
import { type Result, resultAsJson, resultOf } from "./result.ts";
import { type Measured, run, SignalWatch } from "./run.ts";
import { resultLines } from "./view.ts";

const DATA_BYTES = 1 << 20;

/** The exit status. */
export async function bench(socketPath: string, options: BenchOptions): Promise<number> {
  checkUsage(options);
  const place = { socketPath, timeoutMs: options.timeout * 1000 };
  const { packed = false } = options;
  return withFrontEnd(place, { packed }, async (frontEnd) => {
    const plan = planFor(options, frontEnd, diskOf(frontEnd));
    const result = resultOf(await measure(frontEnd, plan, options), plan.guest.blockBytes);
    if (options.json) printJson(resultAsJson(socketPath, options, plan, result));
    else printLines(resultLines(options, plan, result));
    return statusOf(result, socketPath);
  });
}

async function measure(frontEnd: FrontEnd, plan: Plan, options: BenchOptions): Promise<Measured> {
  using signals = new SignalWatch();
  const driver = await RingDriver.load(await readOwnFile("driver.wasm"));
  const attachment = await Attachment.on(frontEnd, driver, plan.guest);
  const { guest } = attachment;
  const rounds = new Rounds(driver, guest, options.sleep ? "sleep" : "poll");
  const line = new LiveLine(guest, options.seconds, plan.guest.blockBytes);
  try {
    if (writes(options.rw)) guest.fillData(randomBytes(options.seed));
    guest.setLoad(plan.load);
    frontEnd.deadlineMs = Number.POSITIVE_INFINITY;
    const measured = await run(attachment, rounds, options.seconds, signals, (elapsedNs) =>
      line.update(elapsedNs),
    );
    frontEnd.deadlineMs = performance.now() + options.timeout * 1000;
    if (measured.ending !== "gone" && measured.ending !== "stalled")
      await stopRings(frontEnd, plan.guest.queues);
    return measured;
  } catch (error) {
    if (error instanceof DeviceFault) throw new StartError(`the back-end broke a ring: ${error.message}`);
    throw error;
  } finally {
    line.clear();
    rounds.close();
    guest.close();
  }
}

/** Nothing is left running when we go, where the back-end still answers. */
async function stopRings(frontEnd: FrontEnd, count: number): Promise<void> {
  try {
    for (let i = 0; i < count; i++) await frontEnd.getVringBase(i);
  } catch {
    // The measurement is good all the same, and closing the connection stops the rings, too.
  }
}

/** The same data for the same seed, and none that storage could leave out: a cipher's stream. */
function randomBytes(seed: number): Uint8Array {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  return createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(new Uint8Array(DATA_BYTES));
}

function statusOf({ ending, failures, abandoned, all }: Result, socketPath: string): number {
  if (ending === "gone") complain(`the back-end at ${socketPath} went away`);
  else if (ending === "stalled") complain(`the back-end at ${socketPath} finishes nothing any more`);
  else if (abandoned > 0) complain(`${abandoned} requests were still not finished when we left`);
  if (failures > 0) complain(`${failures} of ${all.requests} requests failed`);
  if (ending === "gone" || ending === "stalled" || failures > 0) return STATUS_FAILED;
  if (ending !== "time") return 128 + constants.signals[ending];
  return abandoned > 0 ? STATUS_FAILED : 0;
}
