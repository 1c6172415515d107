// Where a text stops being JSON. V8 says that for some faults only, and each version says it differently.

/** In a string only the first 32 control characters are forbidden, which Cc has, with those from 7F to 9F. */
const TOKEN =
  /([{}[\],:])|("(?:[^"\\\p{Cc}]|[\x7f-\x9f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/uy;
const SPACE = /[ \t\n\r]*/y;

type State = "value" | "first value" | "key" | "first key" | "colon" | "after value";

/** The offset of what can't stand there, if anything can't (RFC 8259, 2 to 7). */
export function findJsonFault(text: string): number | undefined {
  const open: string[] = [];
  let state: State = "value";
  let at = 0;
  for (;;) {
    SPACE.lastIndex = at;
    at += SPACE.exec(text)![0].length;
    if (at === text.length) return open.length === 0 && state === "after value" ? undefined : at;
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(text);
    const next: State | undefined =
      token === null ? undefined : after(state, token[1] ?? (token[2] && "string"), open);
    if (next === undefined) return at;
    state = next;
    at = TOKEN.lastIndex;
  }
}

/** The state behind a token: a mark, a string, or (undefined) another scalar. */
function after(state: State, token: string | undefined, open: string[]): State | undefined {
  switch (state) {
    case "colon":
      return token === ":" ? "value" : undefined;
    case "first key":
      return token === "}" ? close(token, open) : after("key", token, open);
    case "key":
      return token === "string" ? "colon" : undefined;
    case "first value":
      return token === "]" ? close(token, open) : after("value", token, open);
    case "value":
      if (token === "string" || token === undefined) return "after value";
      if (token !== "{" && token !== "[") return undefined;
      open.push(token);
      return token === "{" ? "first key" : "first value";
    case "after value":
      if (token !== ",") return close(token, open);
      if (open.length === 0) return undefined;
      return open.at(-1) === "{" ? "key" : "value";
  }
}

function close(token: string | undefined, open: string[]): State | undefined {
  const opening = token === "}" ? "{" : token === "]" ? "[" : "none";
  return open.pop() === opening ? "after value" : undefined;
}
