// A listening socket of the host's, at which callers of the guest come. However many come, others get their turn.
import { reasonOf } from "../../errors.ts";
import { close, SystemError } from "../../linux/libc.ts";
import { whenReadable } from "../../linux/readiness.ts";
import { SpareDescriptor } from "../../linux/spare-descriptor.ts";
import { acceptUnix } from "../../linux/unix-socket.ts";
import type { Log } from "../../process/log.ts";

/** Callers that wait to be accepted. The kernel turns others away. */
export const BACKLOG = 512;
/** Callers that are taken in a turn. */
const CALLERS_A_TURN = 64;

export interface DoorOptions {
  readonly log: () => Log;
  /** Why whoever has come may not stay. */
  whyUnwelcome(fd: number): string | undefined;
  /** The descriptor is the welcomer's from here on. */
  welcome(fd: number): void;
}

const REFUSED = "refused";

export class Door {
  private readonly spare = new SpareDescriptor();
  private readonly watch: ReturnType<typeof whenReadable>;

  /** The descriptor, of a socket that listens and never waits, is the door's from here on. */
  constructor(
    private readonly fd: number,
    private readonly options: DoorOptions,
  ) {
    this.watch = whenReadable(fd, () => this.acceptAll());
  }

  close(): void {
    this.watch.stop();
    this.spare.close();
    close(this.fd);
  }

  private acceptAll(): void {
    for (let i = 0; i < CALLERS_A_TURN; i++) {
      const fd = this.accept();
      if (fd === undefined) return;
      if (fd === REFUSED) continue;
      const reason = this.options.whyUnwelcome(fd);
      if (reason === undefined) {
        this.options.welcome(fd);
        continue;
      }
      this.options.log().warn({ reason }, "a caller was refused");
      close(fd);
    }
  }

  /** Undefined if nobody is there. Without a descriptor to spare, whoever comes is sent away: they would call for ever. */
  private accept(): number | typeof REFUSED | undefined {
    try {
      return acceptUnix(this.fd);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.options.log().warn({ reason: reasonOf(error) }, "a caller can't be accepted");
      return this.spare.lend(() => {
        const fd = acceptUnix(this.fd);
        if (fd !== undefined) close(fd);
        return REFUSED;
      });
    }
  }
}
