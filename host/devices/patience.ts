// How long a device may hold up a front-end, and its guest with it, where what it does takes time: a stop, a message of its own.

/** Two in a row are less than the daemon takes for its end. */
export const PATIENCE_MS = 2000;

/** A device has not done in time what others wait for. */
export class DeviceTooSlow extends Error {}

/** What the device says, if it does in time. Throws DeviceTooSlow; what comes later is dropped. */
export async function inTime<T>(answer: T | Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    const reason = `the device has not finished within ${PATIENCE_MS / 1000} s`;
    timer = setTimeout(() => reject(new DeviceTooSlow(reason)), PATIENCE_MS);
  });
  try {
    return await Promise.race([answer, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
