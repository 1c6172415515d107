// `vringd ctl NAME limits`: what a disk may do in a second, told or asked while it runs.
import { sayChoices } from "../../process/choices.ts";
import type { DeviceCommand } from "../device.ts";
import { limitType } from "./limit-options.ts";
import {
  faultOf,
  LIMIT_NAMES,
  LIMITED,
  type LimitName,
  type LimitValues,
  limitWord,
  limitWords,
} from "./limits.ts";

export interface LimitedDisk {
  limits: LimitValues;
}

export function limitsCommand(disk: LimitedDisk): DeviceCommand {
  return {
    usage: "[NAME=N...]",
    help: "what it may do in a second, such as iops-total=500 or bps-write=0; without names: what is set",
    run(args) {
      if (args.length > 0) disk.limits = changed(disk.limits, args);
      return limitWords(disk.limits);
    },
  };
}

/** All or nothing. Throws RangeError. */
function changed(before: LimitValues, args: readonly string[]): LimitValues {
  const values: Partial<Record<LimitName, number | undefined>> = { ...before };
  for (const arg of args) {
    const [word = "", text = ""] = arg.split("=", 2);
    const name = LIMIT_NAMES.find((each) => limitWord(each) === word);
    if (name === undefined) {
      throw new RangeError(`there is no limit "${word}"; they are ${LIMIT_NAMES.map(limitWord).join(", ")}`);
    }
    const type = limitType(name);
    const value = type.read(text);
    if (value === undefined) throw new RangeError(`${word} takes ${type.takes}, not "${text}"`);
    values[name] = value;
    if (value === 0) forgetBurst(values, name);
  }
  const fault = faultOf(values);
  if (fault !== undefined) throw new RangeError(sayChoices(fault, (name) => limitWord(name as LimitName)));
  return values;
}

/** There is none without its average, and no length without it. */
function forgetBurst(values: Partial<Record<LimitName, number | undefined>>, name: LimitName): void {
  for (const limited of LIMITED) {
    if (name === limited) values[`${limited}Max`] = 0;
    if (name === limited || name === `${limited}Max`) values[`${limited}MaxLength`] = 0;
  }
}
