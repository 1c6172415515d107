// JSON that others wrote, held against a schema: what makes it useless, and what is only unknown to us.
import type { SchemaError, Validator } from "../../build/schemas.js";
import { findJsonFault } from "./json-fault.ts";

export interface Checked<T> {
  /** There is one if there are no faults. */
  value?: T;
  /** Each is a sentence: what is wrong, where, and what to do. */
  faults: string[];
  /** It can be used, but says more than the schema knows: later versions may add members and features. */
  warnings: string[];
}

/** What the schemas have for an absolute path. */
const ABSOLUTE = "^/";
const SHOWN_LENGTH = 40;

export function checkJson<T>(bytes: Uint8Array, validate: Validator): Checked<T> {
  const parsed = parse(bytes);
  if ("fault" in parsed) return { faults: [parsed.fault], warnings: [] };
  return checkValue<T>(parsed.value, validate);
}

/** The same of what was read before. `place`: where in the whole it lies, as a JSON pointer. */
export function checkValue<T>(value: unknown, validate: Validator, place = ""): Checked<T> {
  if (validate(value)) return { value: value as T, faults: [], warnings: [] };
  const faults = new Set<string>();
  const warnings = new Set<string>();
  for (const error of validate.errors ?? []) {
    if (!isEcho(error)) (isTolerable(error) ? warnings : faults).add(sentence(error, place));
  }
  const checked = { faults: [...faults], warnings: [...warnings] };
  return faults.size === 0 ? { ...checked, value: value as T } : checked;
}

function parse(bytes: Uint8Array): { value: unknown } | { fault: string } {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { fault: "it is not UTF-8; write it in that encoding" };
  }
  const at = findJsonFault(text);
  if (at === undefined) return { value: JSON.parse(text) };
  const before = text.slice(0, at).split("\n");
  const where = `line ${before.length}, column ${before.at(-1)!.length + 1}`;
  if (at === text.length) return { fault: `it is not JSON: it ends too early, at ${where}` };
  return { fault: `it is not JSON from ${where} on: ${brief(text.slice(at).split("\n")[0]!)}` };
}

/** "if" repeats that its "then" has failed; what is no string is no known feature either. */
function isEcho(error: SchemaError): boolean {
  return error.keyword === "if" || (isUnknownFeature(error) && typeof error.data !== "string");
}

function isTolerable(error: SchemaError): boolean {
  return error.keyword === "additionalProperties" || isUnknownFeature(error);
}

function isUnknownFeature({ keyword, instancePath }: SchemaError): boolean {
  return keyword === "enum" && instancePath.startsWith("/features/");
}

function sentence(error: SchemaError, before: string): string {
  const { keyword, params, data, message } = error;
  const instancePath = before + error.instancePath;
  const path = `"${instancePath.slice(1).replaceAll("/", " ")}"`;
  const place = instancePath === "" ? "the whole" : path;
  const within = instancePath === "" ? "" : ` in ${path}`;
  const choices = params.allowedValues?.join(", ");
  switch (keyword) {
    case "required":
      return `"${params.missingProperty}" is missing${within}; add it`;
    case "type":
      return `${place} must be ${article(params.type!)}, not ${kindOf(data)}`;
    case "enum":
      if (isUnknownFeature(error))
        return `the schema has no feature ${shown(data)} for this type, only ${choices}`;
      return `${place} must be one of ${choices}; it is ${shown(data)}`;
    case "additionalProperties":
      return `the schema has no member ${shown(params.additionalProperty)}${within}; see whether it is spelt right`;
    default:
      if (params.pattern !== ABSOLUTE) return `${place} ${message}; it is ${shown(data)}`;
      return `${place} must be an absolute path; it is ${shown(data)}`;
  }
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return article(Array.isArray(value) ? "array" : typeof value);
}

function article(kind: string): string {
  return /^[aeiou]/.test(kind) ? `an ${kind}` : `a ${kind}`;
}

function shown(value: unknown): string {
  return brief(JSON.stringify(value));
}

function brief(text: string): string {
  return text.length <= SHOWN_LENGTH ? text : `${text.slice(0, SHOWN_LENGTH)}...`;
}
