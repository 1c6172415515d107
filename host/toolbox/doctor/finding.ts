// What a check has found.

/** A note is worth knowing; a problem keeps vringd from running. */
export type Status = "ok" | "note" | "problem";

export interface Finding {
  check: string;
  status: Status;
  /** A phrase. */
  text: string;
  /** What to change, if anything. */
  advice?: string;
}

export function ok(check: string, text: string): Finding {
  return { check, status: "ok", text };
}

export function note(check: string, text: string, advice: string): Finding {
  return { check, status: "note", text, advice };
}

export function problem(check: string, text: string, advice: string): Finding {
  return { check, status: "problem", text, advice };
}
