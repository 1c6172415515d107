// What would happen next if everyone did their part: for the button that leads through, and for running by itself.
import type { Wish } from "./guest.ts";
import type { Machine } from "./machine.ts";
import { DISK_SECTORS } from "./memory-map.ts";
import { wishCode } from "./scenario.ts";

export interface NextAction {
  code: string;
  /** What it does, for the button. */
  text: string;
}

export function nextAction(machine: Machine, wish: Wish): NextAction {
  const { kernel, guest } = machine;
  if (machine.isBroken) return { code: "z", text: "the guest resets its device" };
  if (machine.isCrashed) return { code: "v", text: "a new core takes over" };
  if (kernel.calls > 0) return { code: "u", text: "the driver takes back what is used" };
  if (machine.isAwake) return { code: "s", text: "the core steps" };
  if (guest.ring.owesKick) return { code: "k", text: "the driver kicks" };
  const [operation] = kernel.operations;
  if (operation !== undefined) {
    return { code: "c0", text: `the kernel does ${operation.name} for ${machine.label(operation.token)}` };
  }
  // Without a call, as after one that the driver did not want.
  if (guest.ring.hasUsed()) return { code: "u", text: "the driver takes back what is used" };
  return { code: wishCode(wish), text: `the driver adds a request` };
}

/** The same for running by itself: requests come before those before them have ended, and of all kinds. */
export function runAction(machine: Machine, random: () => number): NextAction {
  const wish = anyWish(random);
  const isBusy = machine.guest.pending.length > 2;
  if (!isBusy && random() < 0.3 && !machine.isCrashed && machine.canAdd(wish)) {
    return { code: wishCode(wish), text: "" };
  }
  const count = machine.kernel.operations.length;
  const next = nextAction(machine, wish);
  return next.code === "c0" ? { ...next, code: `c${Math.floor(random() * count)}` } : next;
}

function anyWish(random: () => number): Wish {
  const kind = (["write", "read", "write", "read", "flush", "discard"] as const)[Math.floor(random() * 6)]!;
  const sectorCount = random() < 0.3 ? 2 : 1;
  const sector = Math.floor(random() * (DISK_SECTORS - 1));
  return { kind, sector, sectorCount, isIndirect: random() < 0.25 };
}
