// `vringd doctor`: makes all checks, and tells what they have found.
import { STATUS_FAILED } from "../../command-line/program.ts";
import { isRbdUri } from "../../storage/rbd/uri.ts";
import { paint, printJson, printLines, terminalWidth, wrap } from "../terminal.ts";
import type { DoctorOptions } from "./command.ts";
import { type Finding, problem, type Status } from "./finding.ts";
import { machineFindings } from "./machine.ts";

const STYLES = { ok: "green", note: "yellow", problem: "red" } as const;
const STATUS_WIDTH = "problem  ".length;
const CHECK_WIDTH = "huge pages  ".length;
const INDENT = STATUS_WIDTH + CHECK_WIDTH;

/** The exit status. */
export async function doctor({ image = ".", json }: DoctorOptions): Promise<number> {
  const findings = [...machineFindings(), ...(await kernelFindings(image))];
  const problems = findings.filter(({ status }) => status === "problem").length;
  if (json) printJson({ canRun: problems === 0, findings });
  else printLines([...findings.flatMap(findingLines), "", conclusion(problems)]);
  return problems === 0 ? 0 : STATUS_FAILED;
}

/** Those that call the kernel, for which a library is needed. */
async function kernelFindings(image: string): Promise<Finding[]> {
  try {
    await import("../../linux/libc.ts");
  } catch (error) {
    const [reason] = (error as Error).message.split("\n");
    return [problem("koffi", `can't be loaded: ${reason}`, "run npm ci again, on this machine")];
  }
  const [{ memoryFindings }, { uringFindings }, { imageFindings }, { virglFinding }] = await Promise.all([
    import("./memory.ts"),
    import("./uring.ts"),
    import("./image.ts"),
    import("./virgl.ts"),
  ]);
  const images = isRbdUri(image) ? await rbdFindingsOf(image) : imageFindings(image);
  return [...memoryFindings(), ...uringFindings(), ...images, await virglFinding()];
}

/** Ceph's libraries are loaded for whoever asks for them. */
async function rbdFindingsOf(uri: string): Promise<Finding[]> {
  const { rbdFindings } = await import("./rbd.ts");
  return rbdFindings(uri);
}

function findingLines({ check, status, text, advice }: Finding): string[] {
  const head = paint(STYLES[status as Status], status.padEnd(STATUS_WIDTH)) + check.padEnd(CHECK_WIDTH);
  const width = terminalWidth() - INDENT;
  const lines = [...wrap(text, width), ...(advice === undefined ? [] : wrap(`-> ${advice}`, width))];
  return lines.map((line, i) => (i === 0 ? head : " ".repeat(INDENT)) + line);
}

function conclusion(problems: number): string {
  if (problems === 0) return "vringd can run here.";
  return `vringd can't run so: there ${problems === 1 ? "is a problem" : `are ${problems} problems`}.`;
}
