// What systemd, or whoever takes its part, is told of us (sd_notify(3)): nothing, if nobody has asked.
import { datagramTo } from "./unix-socket.ts";

export type Tell = (...assignments: string[]) => void;

/**
 * Connects now, so that later nothing new is reached for. Whoever has asked for news and can't be reached is no reason
 * not to serve.
 */
export function connectServiceManager(environment: NodeJS.ProcessEnv = process.env): Tell {
  const { NOTIFY_SOCKET: path } = environment;
  if (path === undefined || !/^[/@]/.test(path)) return () => {};
  try {
    const sendTo = datagramTo(path);
    return (...assignments) => attempt(() => sendTo(Buffer.from(assignments.join("\n"))));
  } catch {
    return () => {};
  }
}

function attempt(action: () => void): void {
  try {
    action();
  } catch {
    // It has gone: the disk goes on.
  }
}
