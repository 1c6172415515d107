// Which devices a program serves: one, or several that its options name, which may come and go.
import type { DeviceProgram, Member, MemberWords, OpenContext } from "../devices/program.ts";
import { flagOf, type OptionTable, UsageError, type ValuesOf } from "../options/option.ts";
import { controlSocketOf, entranceOf, refuseEntrance } from "./command-line.ts";
import type { FrameValues } from "./frame-options.ts";
import type { DeviceChoice } from "./served.ts";

export interface Devices {
  readonly first: readonly DeviceChoice[];
  /** Left out: they are the same until the process ends. */
  readonly changes?: DeviceChanges;
}

export interface DeviceChanges extends MemberWords {
  /** Of the process, where devices are added and removed. */
  readonly controlSocket: string | undefined;
  /** Throws StartError for what can't be understood. */
  read(asked: unknown): DeviceChoice;
}

/** `asked`: of a predecessor, its members as they are by now. Throws UsageError, and StartError. */
export async function devicesOf(
  program: DeviceProgram,
  values: ValuesOf<OptionTable>,
  frame: FrameValues,
  asked: readonly unknown[] | undefined,
): Promise<Devices> {
  const { controlSocket } = frame;
  const members = await program.members?.(values, asked);
  if (members === undefined) {
    const openDevice = (context: OpenContext) => program.open(values, context);
    return { first: [{ entrance: entranceOf(frame), controlSocket, openDevice }] };
  }
  refuseEntrance(frame);
  const choiceOf = (member: Member) => choiceFor(member, controlSocket);
  const { first, changes } = members;
  if (changes === undefined) return { first: first.map(choiceOf) };
  if (frame.once)
    throw new UsageError(`${flagOf("once")} is of no use here: ${changes.many} come and go while it runs`);
  const { one, many, most } = changes;
  const read = (each: unknown) => choiceOf(changes.read(each));
  return { first: first.map(choiceOf), changes: { one, many, most, controlSocket, read } };
}

function choiceFor(member: Member, controlSocket: string | undefined): DeviceChoice {
  return {
    entrance: { socketPath: member.socketPath },
    member,
    controlSocket: controlSocketOf(controlSocket, member.name),
    openDevice: (context) => member.open(context),
  };
}
