// Devices that are added and removed while the process runs, for those who ask for that at its control socket.

import type { StandbyState } from "../backend/service-state.ts";
import { optionFor } from "../command-line/option-name.ts";
import { StartError } from "../errors.ts";
import { RequestError } from "../observability/http-server.ts";
import type { MemberList, MemberStatus } from "../observability/members.ts";
import type { Observability } from "../observability/observability.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { Standby } from "../upgrade/standby.ts";
import type { DeviceChanges } from "./devices.ts";
import type { Keeping } from "./keeping.ts";
import { type DeviceChoice, type Served, tellReady } from "./served.ts";
import type { ListedMember, ServedSet } from "./served-set.ts";

/** What else of the daemon has to know of a device that comes or goes. */
export interface ChangingParts {
  readonly observability: Observability;
  readonly standby: Standby | undefined;
  readonly standbyState: StandbyState | undefined;
  readonly keeping: Keeping | undefined;
}

export class Changing implements MemberList {
  readonly one: string;
  readonly many: string;

  /** `parts`: as they are once somebody can ask. */
  constructor(
    private readonly changes: DeviceChanges,
    private readonly devices: ServedSet,
    private readonly parts: () => ChangingParts,
    private readonly log: LimitedLog,
  ) {
    this.one = changes.one;
    this.many = changes.many;
  }

  list(): MemberStatus[] {
    return this.devices.list().map(statusOf);
  }

  has(name: string): boolean {
    return this.devices.has(name);
  }

  async add(asked: unknown): Promise<MemberStatus> {
    const choice = this.read(asked);
    const { name, logFields } = choice.member!;
    const adding = this.devices.add(choice, (served) => this.show(served));
    const served = await refusing(409, adding);
    const status = statusOf(this.listed(name));
    this.log.info(logFields, "a device is added");
    tellReady(served);
    await this.parts().standby?.renew();
    return status;
  }

  async remove(name: string, isForced: boolean): Promise<void> {
    const { observability, standby } = this.parts();
    const { logFields } = this.listed(name).member;
    const removing = this.devices.remove(name, isForced, (served) => observability.remove(served));
    await refusing(409, removing);
    this.log.info(logFields, "a device is removed");
    await standby?.renew();
  }

  /** It is there. */
  private listed(name: string): ListedMember {
    return this.devices.list().find(({ member }) => member.name === name)!;
  }

  private read(asked: unknown): DeviceChoice {
    try {
      return this.changes.read(asked);
    } catch (error) {
      throw refusal(400, error);
    }
  }

  private async show(served: Served): Promise<void> {
    const { observability, keeping, standbyState } = this.parts();
    served.subject.standby = standbyState;
    await observability.add(served);
    keeping?.add(served);
  }
}

function statusOf({ member, state }: ListedMember): MemberStatus {
  return { name: member.name, socket: member.socketPath, state, ...member.shown };
}

async function refusing<T>(status: number, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw refusal(status, error);
  }
}

/** What is a sentence for whoever has asked, and else the error itself. */
function refusal(status: number, error: unknown): unknown {
  if (error instanceof StartError) return new RequestError(status, error.told(optionFor));
  return error instanceof RangeError ? new RequestError(status, error.message) : error;
}
