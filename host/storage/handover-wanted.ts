// Whether a disk is to go from one process to another, which not every one can.

export interface HandoverWanted {
  /** Another process has it, until its guest is moved here. */
  incoming?: boolean | undefined;
  /** Another process is to go on with it when this one has died. */
  standby?: boolean | undefined;
}

/** The name of the choice. Undefined: it stays with this process. */
export function handoverWanted({ incoming, standby }: HandoverWanted): keyof HandoverWanted | undefined {
  if (incoming) return "incoming";
  return standby ? "standby" : undefined;
}
