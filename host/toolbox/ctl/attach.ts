// `vringd ctl SOCKET attach`: this terminal, or whatever stands in for one, at a port of a running device.
import { once } from "node:events";
import type { Socket } from "node:net";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { askControl, ControlError, type Peer } from "../control-client.ts";
import { type ControlKey, EscapeKey } from "./escape-key.ts";
import { rawTerminal } from "./raw-terminal.ts";
import { connectTo, listPorts, pathOfPort } from "./terminal-connection.ts";

export interface AttachOptions {
  /** Undefined: there is none. */
  escape: ControlKey | undefined;
  /** Whoever is attached there is detached. */
  force: boolean;
}

/** Why it is over. */
type End = "detached" | "input ended" | "connection closed" | NodeJS.Signals;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** What a guest may leave untaken of what was typed. More is dropped, so that the escape key is seen in any case. */
const TYPED_MAX = 1 << 20;
/** How long the device may take for what was typed before the key. */
const FAREWELL_MS = 1000;

/** Resolves with the exit status. Throws ControlError. */
export async function attach(peer: Peer, port: string | undefined, options: AttachOptions): Promise<number> {
  const name = port ?? (await onlyPort(peer));
  if (options.force) await askControl(peer, "DELETE", pathOfPort(name));
  const connection = await connectTo(peer, name);
  connection.on("error", () => connection.destroy());
  const unfollow = followSize(peer, name);
  const end = await (process.stdin.isTTY ? type(connection, name, options.escape) : pass(connection));
  unfollow();
  connection.destroy();
  process.stdin.destroy();
  if (end === "detached") return 0;
  if (end in constants.signals) return 128 + constants.signals[end as NodeJS.Signals];
  const isThere = await isRunning(peer);
  if (end === "input ended" && isThere) return 0;
  const why = isThere ? `somebody else has detached this terminal from ${name}` : "the daemon has ended";
  throw new ControlError(`${peer.socketPath}: ${why}`);
}

async function onlyPort(peer: Peer): Promise<string> {
  const names = (await listPorts(peer)).map(({ name }) => name);
  if (names.length === 1) return names[0]!;
  throw new ControlError(
    names.length === 0
      ? `${peer.socketPath}: its device has no console`
      : `${peer.socketPath}: it has ${names.length} ports, so name one: ${names.join(", ")}`,
  );
}

async function isRunning(peer: Peer): Promise<boolean> {
  try {
    await listPorts(peer);
    return true;
  } catch {
    return false;
  }
}

/** Keys of a terminal, which is as it was before when this has resolved. */
async function type(connection: Socket, name: string, key: ControlKey | undefined): Promise<End> {
  const { stdin, stderr } = process;
  const help = key
    ? `${key.name} q detaches, ${key.name} twice is that key`
    : "there is no key that detaches";
  stderr.write(`Attached to ${name}: ${help}.\n`);
  const terminal = rawTerminal();
  try {
    connection.pipe(terminal.output, { end: false });
    const keys = new EscapeKey(key);
    const detached = new Promise<End>((resolve) => {
      stdin.on("data", (typed: Buffer) => {
        const { bytes, command } = keys.read(typed);
        if (connection.writableLength < TYPED_MAX) connection.write(bytes);
        if (command === "help") terminal.output.write(`\r\n${help}\r\n`);
        if (command === "detach") resolve("detached");
      });
      stdin.on("end", () => resolve("detached"));
    });
    const end = await Promise.race([detached, closed(connection), signalled()]);
    connection.unpipe();
    if (end === "detached") await takeLeave(connection);
    return end;
  } finally {
    terminal.restore();
  }
}

/** What comes from no terminal goes on as it is. The end of the input detaches, once the device has taken it all. */
async function pass(connection: Socket): Promise<End> {
  const { stdin, stdout } = process;
  connection.pipe(stdout, { end: false });
  stdin.pipe(connection);
  const end = await Promise.race([closed(connection), signalled()]);
  return end === "connection closed" && stdin.readableEnded ? "input ended" : end;
}

async function closed(connection: Socket): Promise<End> {
  await once(connection, "close");
  return "connection closed";
}

function signalled(): Promise<End> {
  return new Promise((resolve) => {
    for (const signal of SIGNALS) process.once(signal, () => resolve(signal));
  });
}

/** What was typed is not lost, if the device takes it. */
async function takeLeave(connection: Socket): Promise<void> {
  connection.resume().end();
  const tooLate = new AbortController();
  await Promise.race([closed(connection), sleep(FAREWELL_MS, undefined, { signal: tooLate.signal })]);
  tooLate.abort();
}

/** Tells how large the terminal's window is, one change after the other. Returns what ends that. */
function followSize(peer: Peer, name: string): () => void {
  const { stdout } = process;
  let isTelling = false;
  let isOld = false;
  const tell = async () => {
    isOld = true;
    if (isTelling) return;
    isTelling = true;
    while (isOld) {
      isOld = false;
      const { columns: cols, rows } = stdout;
      // A size that could not be told does no harm, and some terminals say that they have none.
      if (cols && rows) await askControl(peer, "PUT", pathOfPort(name), { cols, rows }).catch(() => {});
    }
    isTelling = false;
  };
  if (stdout.isTTY) tell();
  stdout.on("resize", tell);
  return () => stdout.off("resize", tell);
}
