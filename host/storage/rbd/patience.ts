// A call to a cluster that may never answer: it can't be taken back, so whoever waits for it gives up.
import { onAbort } from "../../process/abort.ts";

/**
 * Resolves or rejects as the call does, unless that takes longer, or `stopping` ends the wait with an AbortError. The call then goes on
 * in a thread of libuv's, until the process ends.
 */
export async function inTime<T>(
  call: Promise<T>,
  timeoutMs: number,
  stopping: AbortSignal,
  failure: () => Error,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let unhear = () => {};
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(failure()), timeoutMs);
    unhear = onAbort(stopping, () => reject(stopping.reason));
  });
  try {
    return await Promise.race([call, end]);
  } finally {
    clearTimeout(timer);
    unhear();
    // Whoever comes after the end has nobody to hear of it.
    call.catch(() => {});
  }
}
