// The NBD server that all back-ends of a run share: nbdkit on an image of ours, started when the first cell wants it.
import { join } from "node:path";
import { BackEndProcess } from "./back-end-process.ts";
import type { Images } from "./images.ts";

export class SharedNbdServer {
  readonly socketPath: string;
  private starting: Promise<BackEndProcess> | undefined;

  constructor(
    private readonly images: Images,
    private readonly cores: readonly number[],
  ) {
    this.socketPath = join(images.directory("tmpfs"), "nbd.sock");
  }

  /** Resolves once it listens; rejects where there is no nbdkit. */
  async start(): Promise<void> {
    const command = ["nbdkit", "-f", "-U", this.socketPath, "file", this.images.image("tmpfs", "nbd")];
    this.starting ??= BackEndProcess.start(command, this.socketPath, this.cores);
    await this.starting;
  }
}
