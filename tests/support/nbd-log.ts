// Takes an NBD disk's log lines, to look at them.
import type { NbdLog } from "../../host/storage/nbd/client.ts";

export class LineLog {
  readonly lines: string[] = [];

  get log(): NbdLog {
    const take = (fields: unknown, message?: string) =>
      this.lines.push(`${message} ${JSON.stringify(fields)}`);
    return { info: take, warn: take, error: take } as unknown as NbdLog;
  }

  like(pattern: RegExp): string[] {
    return this.lines.filter((line) => pattern.test(line));
  }
}
