// An entropy device (virtio 1.4, 5.4) that throws dice, until Ctrl-C. Usage: dice-device SOCKET-PATH
// A Linux guest reads the throws from /dev/hwrng: its own driver knows the device by the number 4.
import { randomInt } from "node:crypto";
import { argv } from "node:process";
import { type Chain, type DeviceQueue, serve, type VirtioDevice } from "vringd";

class Dice implements VirtioDevice {
  readonly type = "dice";
  readonly virtioId = 4;
  readonly features = 0n;
  /** All chains as soon as they are there. A throw may be made again, should this process die amid one. */
  readonly queues = [{ name: "requestq", credit: "all", recover: "repeat" }] as const;

  start(queue: DeviceQueue): void {
    queue.serve((chain) => this.throwDice(chain));
  }

  private throwDice(chain: Chain): void {
    while (chain.out.left > 0) chain.out.u8(randomInt(1, 7));
    chain.use();
  }
}

const server = await serve({ device: new Dice(), socketPath: argv[2]! });
server.on("disconnect", ({ chains, bytesIn }) => console.log(`${bytesIn} throws in ${chains} requests`));
process.once("SIGINT", () => server.close());
process.once("SIGTERM", () => server.close());
console.log("listening");
