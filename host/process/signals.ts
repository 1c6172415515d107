// What signals mean to our programs. Installed before anything else is loaded, since Node opens a debugger on SIGUSR1
// until somebody listens to it, and a debugger runs code for every user of this machine.
import { basename } from "node:path";
import { shownText } from "./shown.ts";

let onAsked: (() => void) | undefined;
let wasAsked = false;

/** No debugger: SIGUSR1 asks for the status, and SIGUSR2, which would end the process, for nothing. */
export function takeUserSignals(): void {
  process.on("SIGUSR1", () => {
    wasAsked = true;
    answer();
  });
  process.on("SIGUSR2", () => {});
  if (isDebuggerWanted()) return;
  // A signal that came while Node itself was starting has opened one, or is about to.
  closeDebugger();
  setImmediate(closeDebugger);
}

/** `show` is called for each SIGUSR1, and at once for one that came before. */
export function onStatusSignal(show: () => void): void {
  onAsked = show;
  answer();
}

function answer(): void {
  if (!wasAsked || onAsked === undefined) return;
  wasAsked = false;
  onAsked();
}

function isDebuggerWanted(): boolean {
  return `${process.execArgv.join(" ")} ${process.env.NODE_OPTIONS ?? ""}`.includes("--inspect");
}

function closeDebugger(): void {
  try {
    const inspector = process.getBuiltinModule("node:inspector");
    if (inspector.url() !== undefined) inspector.close();
  } catch {
    // A Node without one.
  }
}

/**
 * Whether whoever started us wants SIGHUP to be ignored, as nohup(1) does. Node sets every signal to its default before
 * it runs any code, so where it has done that only traces are left: what nohup does to a terminal's input, what shells
 * say they have run, and what our parent itself ignores.
 */
export function isHangupIgnored(env: NodeJS.ProcessEnv = process.env): boolean {
  return (
    ignoresHangup("self") ||
    env[IGNORED_HANGUP] === "1" ||
    basename(env._ ?? "") === "nohup" ||
    isInputOfNohup() ||
    ignoresHangup(String(process.ppid))
  );
}

/** Set by the first lines of the installed programs, which see what Node has not changed yet. */
const IGNORED_HANGUP = "VRINGD_SIGHUP_IGNORED";

function ignoresHangup(pid: string): boolean {
  const ignored = /^SigIgn:\s*([0-9a-f]+)/m.exec(shownText(`/proc/${pid}/status`))?.[1];
  return ignored !== undefined && (Number.parseInt(ignored.at(-1)!, 16) & 1) !== 0;
}

/** nohup gives a command that would read from a terminal a descriptor of /dev/null that can't be read. */
function isInputOfNohup(): boolean {
  const flags = /^flags:\s*0*([0-7]+)/m.exec(shownText("/proc/self/fdinfo/0"))?.[1];
  return flags !== undefined && (Number.parseInt(flags, 8) & 3) === 1;
}
