// Guests that one process serves, and which of them may reach each other: those that have a group in common.
import type { SocketKind } from "../../../linux/unix-socket.ts";
import type { Answered, Caller } from "../far-socket.ts";
import type { Address } from "../packet.ts";
import { pipe } from "./pipe.ts";

/** A guest as its siblings see it. */
export interface Sibling {
  readonly guestCid: number;
  readonly groups: readonly string[];
  /** False: nobody is there, or not for one more. */
  called(address: Omit<Address, "type">, kind: SocketKind, caller: Caller): boolean;
}

export class Neighbourhood {
  private readonly byCid = new Map<number, Sibling>();

  join(sibling: Sibling): void {
    this.byCid.set(sibling.guestCid, sibling);
  }

  leave({ guestCid }: Sibling): void {
    this.byCid.delete(guestCid);
  }

  /** Whom a guest means by this CID, if it may reach them. */
  find(from: Sibling, cid: number): Sibling | undefined {
    const found = this.byCid.get(cid);
    return found !== from && found?.groups.some((group) => from.groups.includes(group)) ? found : undefined;
  }
}

/** A guest calls another one. The result ends the wait for its answer. */
export function callSibling(
  callerCid: number,
  callee: Sibling,
  { port, guestPort }: Pick<Address, "port" | "guestPort">,
  kind: SocketKind,
  answered: Answered,
): () => void {
  const [near, far] = pipe(kind);
  near.onEdge = () => {
    if (!near.hasGone) return;
    near.close();
    answered(undefined);
  };
  const address = { cid: callerCid, port: guestPort, guestPort: port };
  const caller = { socket: far, accepted: () => answered(near) };
  if (!callee.called(address, kind, caller)) answered(undefined);
  return () => near.close(true);
}
