// An I2C bus for guests (virtio 1.4, 5.16): what is on buses of the host, and chips that are emulated.
import { VIRTIO_ID_I2C_ADAPTER } from "../../../assembly/spec/virtio-i2c.ts";
import { type Bus, hex } from "../../buses/bus.ts";
import type { OpenBuses } from "../../buses/open.ts";
import { parseAddress } from "../../buses/target.ts";
import { reasonOf } from "../../errors.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { HostTooSlow, Turns } from "../deadline.ts";
import type { DeviceFacts, DeviceHost, DeviceQueue, QueueSpec, VirtioDevice } from "../device.ts";
import { Groups, REQUESTS_MAX } from "./groups.ts";
import { FEATURE_NAMES, FEATURES } from "./options.ts";
import { failChain, type Request } from "./request.ts";

/**
 * More than a host's bus takes until it gives up by itself, which is a second as a rule; less than a ring that stops is waited for
 * (patience.ts). Linux's driver waits for ever.
 */
const DEADLINE_MS = 1500;

/** What a dead predecessor had begun may have been done. */
const REQUEST_QUEUE: QueueSpec = { name: "requestq", credit: "all", recover: "fail", fail: failChain };

export class I2cDevice implements VirtioDevice {
  readonly type = "i2c";
  readonly virtioId = VIRTIO_ID_I2C_ADAPTER;
  readonly queues: readonly QueueSpec[] = [REQUEST_QUEUE];
  readonly features = FEATURES;
  readonly requiredFeatures = FEATURES;
  readonly featureNames = FEATURE_NAMES;
  readonly facts: DeviceFacts;
  readonly commands: NonNullable<VirtioDevice["commands"]>;
  private readonly lanes = new Map<number, { bus: Bus; turns: Turns }>();
  private readonly groups = new Groups((requests) => this.execute(requests));
  private log: Log = SILENT;
  private isAccepted = false;

  constructor(private readonly buses: OpenBuses) {
    for (const bus of buses.all) {
      const lane = { bus, turns: new Turns(DEADLINE_MS) };
      for (const address of bus.addresses.keys()) this.lanes.set(address, lane);
    }
    this.facts = factsOf(buses);
    const temperature = {
      usage: "ADDRESS CELSIUS",
      help: "what the emulated thermometer at this address measures from now on",
      run: (args: readonly string[]) => this.setTemperature(args),
    };
    this.commands = buses.emulated.hasThermometer ? { temperature } : {};
  }

  attach({ log }: DeviceHost): void {
    this.log = log;
  }

  negotiated(features: bigint): void {
    this.isAccepted = (features & FEATURES) === FEATURES;
  }

  start(queue: DeviceQueue): void {
    this.groups.start(queue.size);
    queue.serve((chain) => this.groups.take(chain), { concurrency: REQUESTS_MAX });
  }

  stop(): Promise<void> {
    return this.groups.stop();
  }

  async close(): Promise<void> {
    for (const bus of this.buses.all) await bus.close();
  }

  /** A group is one transfer of one bus. Nothing of it is done if anything of it can't be. */
  private async execute(requests: readonly Request[]): Promise<boolean> {
    const [lane, ...others] = new Set(requests.map(({ address }) => this.lanes.get(address ?? 0)));
    if (!this.isAccepted || lane === undefined || others.length > 0) return false;
    const { bus, turns } = lane;
    try {
      const messages = requests.map((request) => request.message());
      await turns.take(() => bus.transfer(messages));
      return true;
    } catch (error) {
      const fields = { bus: bus.name, reason: reasonOf(error) };
      if (error instanceof HostTooSlow)
        this.log.warn(fields, "a bus hangs: requests for it fail until it answers");
      // A chip that does not answer is the guest's business.
      else this.log.debug(fields, "a transfer has failed");
      return false;
    }
  }

  private setTemperature([at = "", celsius = "", ...more]: readonly string[]) {
    if (!/^-?\d+(\.\d+)?$/.test(celsius) || more.length > 0)
      throw new RangeError("give an address and degrees Celsius, such as 0x48 21.5");
    return { temperature: this.buses.emulated.setTemperature(parseAddress(at), Number(celsius)) };
  }
}

function factsOf({ all }: OpenBuses): DeviceFacts {
  const addresses = all.flatMap((bus) => [...bus.addresses]).sort(([a], [b]) => a - b);
  const i2c = Object.fromEntries(addresses.map(([address, what]) => [hex(address), what]));
  return { log: { addresses: Object.keys(i2c).join(" ") }, status: { i2c }, labels: {}, gauges: [] };
}
