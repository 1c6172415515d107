// What can go wrong, by whose fault it is.
import { getSystemErrorMap } from "node:util";
import { type NameOfChoice, nameInLibrary, sayChoices } from "./process/choices.ts";

/** The front-end broke the protocol: a non-zero reply if it asked for one, or the end of the connection. */
export class ProtocolError extends Error {
  /** @internal */
  constructor(
    /** The request's name, such as "SET_VRING_NUM". */
    readonly request: string,
    /** What was wrong with it, in a few words. */
    readonly reason: string,
  ) {
    super(`${request}: ${reason}`);
    this.name = "ProtocolError";
  }
}

/** vringd can't start with what it was given. The message is one sentence: what, where, and what would help. */
export class StartError extends Error {
  /** What the kernel said, such as "EADDRINUSE". Undefined: it was not asked, or had no objection. */
  readonly code: string | undefined;
  private readonly sentence: string;

  /** `sentence`: the message. `cause`: the error that it says in words. */
  constructor(sentence: string, cause?: unknown) {
    super(sayChoices(sentence, nameInLibrary), cause === undefined ? {} : { cause });
    this.name = "StartError";
    this.code = (cause as { code?: string } | undefined)?.code;
    this.sentence = sentence;
  }

  /**
   * The message, for those who have other names for what can be chosen.
   * @internal
   */
  told(nameOf: NameOfChoice): string {
    return sayChoices(this.sentence, nameOf);
  }
}

/** A server was told to close while requests to its disk were in flight which have not settled for seconds. */
export class BusyError extends Error {
  /** @internal */
  constructor() {
    super("requests to the disk have not settled; the server closes when they have");
    this.name = "BusyError";
  }
}

/** The words of an error that the kernel gave, such as "permission denied". */
export function reasonOf(error: unknown): string {
  const { errno, message } = error as { errno?: number; message?: string };
  // Node gives errno negated, as libuv does.
  const known = errno === undefined ? undefined : getSystemErrorMap().get(-Math.abs(errno));
  return known?.[1] ?? message ?? String(error);
}
