// The same loads with Linux' own driver and socat(1) in a guest.
import { truncateSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type Qemu, type QemuGuest, startQemuGuest, VSOCK } from "../../support/guest.ts";
import { type SocketBackEnd, SocketContender } from "./contenders.ts";
import { HostProgram } from "./host-program.ts";
import { LOADS, type Load, type Sample, sample } from "./loads.ts";

const PORT_MIN = 1000;
const LISTEN_MS = 300_000;
const GUEST_MS_MAX = 3_600_000;
const RETRY_MS = 100;
const WAIT_MS = 100;
const DISK_BYTES = 1 << 20;

/** Each load has a port, at which a program of the guest waits for callers. */
const LISTENERS = LOADS.map(({ kind, writeBytes }, i) => {
  const listen = `VSOCK-LISTEN:${PORT_MIN + i},fork`;
  if (kind === "to the host") return `socat -u -b ${writeBytes} OPEN:/dev/zero ${listen} 2> /dev/null &`;
  return kind === "to the guest"
    ? `socat -u -b 65536 ${listen} OPEN:/dev/null &`
    : `socat -b 65536 ${listen} PIPE &`;
});
const SCRIPT = `${LISTENERS.join("\n")}\nreport READY yes\nread -r line\n`;

export class InGuest {
  private constructor(
    readonly contender: SocketContender,
    private readonly guest: QemuGuest,
  ) {}

  static async start(qemu: Qemu, backEnd: SocketBackEnd): Promise<InGuest> {
    const contender = await SocketContender.start(backEnd, []);
    try {
      const imagePath = contender.file("guest.img");
      writeFileSync(imagePath, "");
      truncateSync(imagePath, DISK_BYTES);
      const chardev = `socket,id=vsock,path=${contender.socketPath}`;
      const guest = await startQemuGuest({
        qemu,
        imagePath,
        modules: VSOCK.modules,
        programs: ["socat"],
        script: SCRIPT,
        timeoutMs: GUEST_MS_MAX,
        extraArgs: ["-chardev", chardev, "-device", "vhost-user-vsock-pci,chardev=vsock"],
      });
      await guest.waitForReport("READY", LISTEN_MS);
      return new InGuest(contender, guest);
    } catch (error) {
      await contender.stop();
      throw error;
    }
  }

  async measure(load: Load, seconds: number): Promise<Sample> {
    const program = await this.call(PORT_MIN + LOADS.indexOf(load));
    try {
      return sample(this.contender, load, () => carry(program, load, performance.now() + seconds * 1000));
    } finally {
      program.close();
    }
  }

  async stop(): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
    await this.contender.stop();
  }

  /** Once somebody listens. */
  private async call(port: number): Promise<HostProgram> {
    for (const end = performance.now() + LISTEN_MS; ; ) {
      const program = HostProgram.call(this.contender.uds, port);
      try {
        let line = "";
        while (!line.endsWith("\n")) {
          program.waitToTake(WAIT_MS);
          line += program.takeText(1);
          if (performance.now() > end) throw new Error(`port ${port} of the guest does not answer`);
        }
        return program;
      } catch (error) {
        program.close();
        if (performance.now() > end) throw error;
        await sleep(RETRY_MS);
      }
    }
  }
}

function carry(program: HostProgram, { kind, writeBytes }: Load, end: number): number {
  let count = 0;
  while (performance.now() < end) {
    if (kind !== "to the host") {
      const given = program.give(writeBytes);
      if (kind === "to the guest") count += checked(given);
      if (given === 0) program.waitToGive(WAIT_MS);
    }
    if (kind === "to the guest") continue;
    program.waitToTake(WAIT_MS);
    count += checked(program.take());
  }
  return count;
}

function checked(count: number): number {
  if (count === -1) throw new Error("the guest has ended the connection");
  return count;
}
