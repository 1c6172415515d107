// The request at the control socket that has another process serve in this one's place.
import { type Answer, json, RequestError } from "./http-server.ts";

export interface Upgrader {
  /** `binary`: its program; left out: this one's. Rejects with a RangeError, a sentence, where this process serves on. */
  run(binary: string | undefined): Promise<Readonly<Record<string, string | number>>>;
  /** Whoever asked has the answer: nothing keeps this process any more. */
  answered(): void;
}

/** `request`: what the client has sent, which may be anything. */
export async function upgradeBy(upgrader: Upgrader | undefined, request: unknown): Promise<Answer> {
  const { binary, ...others } = (request ?? {}) as Record<string, unknown>;
  if ((binary !== undefined && typeof binary !== "string") || Object.keys(others).length > 0)
    throw new RequestError(400, 'the body must be {"binary": the path of a program}, or {}');
  if (upgrader === undefined) throw new RequestError(409, "this process can't be upgraded");
  try {
    return { ...json(await upgrader.run(binary)), afterwards: () => upgrader.answered() };
  } catch (error) {
    if (error instanceof RangeError) throw new RequestError(409, error.message);
    throw error;
  }
}
