// What systemd, or whoever takes its part, is told of us (sd_notify(3)): nothing, if nobody has asked. And the descriptors that it keeps for
// whoever comes after us (systemd's file descriptor store).
import { datagramTo } from "./unix-socket.ts";

export type Tell = (...assignments: string[]) => void;

/** Each descriptor has a name that no other has. What returns false has not been done: there was no room, now. */
export interface DescriptorStore {
  /** Until drop(), whatever becomes of this process. */
  keep(name: string, fd: number): boolean;
  drop(name: string): boolean;
}

export interface ServiceManager {
  readonly tell: Tell;
  readonly store: DescriptorStore;
}

type Send = ReturnType<typeof datagramTo>;

/**
 * Connects now, so that later nothing new is reached for. Whoever has asked for news and can't be reached is no reason
 * not to serve.
 */
export function connectServiceManager(environment: NodeJS.ProcessEnv = process.env): ServiceManager {
  const send = connect(environment.NOTIFY_SOCKET);
  const say = (assignments: readonly string[], fds: readonly number[] = []) =>
    send(Buffer.from(assignments.join("\n")), fds);
  return {
    tell: (...assignments) => void say(assignments),
    store: {
      // It would drop by itself what has no other end any more: the one copy that we know of must not go unknown to us.
      keep: (name, fd) => say(["FDSTORE=1", `FDNAME=${name}`, "FDPOLL=0"], [fd]),
      drop: (name) => say(["FDSTOREREMOVE=1", `FDNAME=${name}`]),
    },
  };
}

function connect(path: string | undefined): Send {
  if (path === undefined || !/^[/@]/.test(path)) return () => true;
  const sendTo = attempt(() => datagramTo(path));
  // It has gone: the disk goes on, and nobody keeps anything.
  return (bytes, fds) => attempt(() => sendTo?.(bytes, fds)) ?? true;
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
