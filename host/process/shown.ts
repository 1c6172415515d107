// What the system shows of itself in files, such as /proc: much of it comes and goes meanwhile, belongs to others, or is hidden by a
// sandbox. What can't be read is as empty.
import { readdirSync, readFileSync } from "node:fs";

export function shownText(file: string): string {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return "";
  }
}

export function shownNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
