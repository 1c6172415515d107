// The back-ends that carry sockets: ours, and rust-vmm's where it is.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { processTimeNs } from "../../support/cpu-clock.ts";
import { inSid } from "../../support/qemu-releases.ts";
import { PROGRAM } from "../../support/vringd.ts";
import { BackEndProcess } from "../back-end-process.ts";

export const GUEST_CID = 42;
const PEER = "vhost-device-vsock";

export interface SocketBackEnd {
  readonly name: string;
  command(socketPath: string, udsPath: string): string[];
}

const OURS: SocketBackEnd = {
  name: "vringd-vsock",
  command: (socketPath, udsPath) => [
    process.execPath,
    join(dirname(PROGRAM), "vringd-vsock.mjs"),
    `--socket-path=${socketPath}`,
    `--guest-cid=${GUEST_CID}`,
    `--uds-path=${udsPath}`,
    "--log-level=warn",
  ],
};

/** Ours first. */
export function socketBackEnds(peer: string | undefined): { backEnds: SocketBackEnd[]; lack?: string } {
  const command = peer === undefined ? inSid(PEER) : [peer];
  if (command === undefined)
    return { backEnds: [OURS], lack: `${PEER} is neither here nor given (--peer PATH)` };
  const theirs: SocketBackEnd = {
    name: PEER,
    command: (socketPath, udsPath) => [
      ...command,
      `--guest-cid=${GUEST_CID}`,
      `--socket=${socketPath}`,
      `--uds-path=${udsPath}`,
    ],
  };
  return { backEnds: [OURS, theirs] };
}

export class SocketContender {
  private constructor(
    readonly name: string,
    private readonly process: BackEndProcess,
    private readonly directory: string,
  ) {}

  static async start({ name, command }: SocketBackEnd, cores: readonly number[]): Promise<SocketContender> {
    const directory = mkdtempSync(join(tmpdir(), "vringd-bench-"));
    const socketPath = join(directory, "vhost");
    try {
      // A front-end that comes and goes again would be its first, and for some its last.
      const isReady = () => existsSync(socketPath);
      const started = command(socketPath, join(directory, "uds"));
      const process = await BackEndProcess.start(started, socketPath, cores, isReady);
      return new SocketContender(name, process, directory);
    } catch (error) {
      rmSync(directory, { recursive: true });
      throw error;
    }
  }

  get socketPath(): string {
    return join(this.directory, "vhost");
  }

  get uds(): string {
    return join(this.directory, "uds");
  }

  /** A place for files of whoever uses it. */
  file(name: string): string {
    return join(this.directory, name);
  }

  /** Processor time up to now, of all its threads: neither has other processes. */
  get processorNs(): number {
    return processTimeNs(this.process.pid);
  }

  async stop(): Promise<void> {
    await this.process.stop();
    rmSync(this.directory, { recursive: true });
  }
}
