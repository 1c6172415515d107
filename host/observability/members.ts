// Devices that come and go while their process runs, as its control socket lists, adds and removes them.
import { isStranger } from "../protocol/private-socket.ts";
import { parse } from "./common-routes.ts";
import { type Answer, json, RequestError, type Routes } from "./http-server.ts";

/** One of them, as a list shows it. */
export interface MemberStatus {
  name: string;
  socket: string;
  /** "connected": a front-end is. */
  state: "starting" | "waiting" | "connected" | "ending";
  /** What its device has to say. */
  [detail: string]: string;
}

export interface MemberList {
  /** What they are called: "disk", "disks". */
  readonly one: string;
  readonly many: string;
  list(): readonly MemberStatus[];
  has(name: string): boolean;
  /** `asked`: what a client has sent, which may be anything. Rejects with a RequestError. */
  add(asked: unknown): Promise<MemberStatus>;
  /** Of one that is there. `isForced`: also where a front-end is connected. Rejects with a RequestError. */
  remove(name: string, isForced: boolean): Promise<void>;
}

/** Who was let in to command this process is not to read and write what this user may. */
const STRANGER =
  "only root and the user of this process may add to it, since files are opened with that user's rights";

export function memberRoutes(members: MemberList): Routes {
  const path = `/v1/${members.many}`;
  return {
    [path]: {
      GET: () => json({ [members.many]: members.list() }),
      POST: async (body, _headers, _last, _query, client) => {
        if (isStranger(client)) throw new RequestError(403, STRANGER);
        return json(await members.add(askedIn(body)), 201);
      },
    },
    [`${path}/{${members.one}}`]: {
      DELETE: (_body, _headers, name, query) => remove(members, name, query.get("force")),
    },
  };
}

async function remove(members: MemberList, name: string, force: string | null): Promise<Answer> {
  if (force !== null && force !== "true" && force !== "false")
    throw new RequestError(400, `force is true or false, not ${force}`);
  if (!members.has(name)) throw new RequestError(404, `there is no ${name} among the ${members.many}`);
  await members.remove(name, force === "true");
  return json({ removed: name });
}

function askedIn(body: string): unknown {
  const asked = parse(body);
  if (asked === undefined) throw new RequestError(400, "the body is no JSON");
  return asked;
}
