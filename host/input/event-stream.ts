// Events as a stream brings them: lines of text, or one of two binary forms.
import { INPUT_EVENT_SIZE as VIRTIO_EVENT_SIZE } from "../../assembly/spec/virtio-input.ts";
import { ByteSource } from "../linux/byte-source.ts";
import { decodeEvents, INPUT_EVENT_SIZE, type InputEvent } from "../linux/evdev.ts";
import { codesOf, typeNamed } from "../linux/input-event-codes.ts";
import type { Log } from "../process/log.ts";
import type { Groups } from "./groups.ts";

/** Of an event as the virtqueue has it, and as event devices give it. */
const SIZES = { virtio: VIRTIO_EVENT_SIZE, evdev: INPUT_EVENT_SIZE };
/** Of far fewer events than may wait. */
const READ_BYTES = 4096;
const LINE_MAX = 256;

export class EventStream {
  private readonly closing = new AbortController();
  private rest: Buffer = Buffer.alloc(0);

  private constructor(
    private readonly source: ByteSource,
    private readonly format: "text" | keyof typeof SIZES,
  ) {}

  /** `path`: "-" is standard input. Throws StartError. */
  static open(path: string, format: EventStream["format"]): EventStream {
    return new EventStream(path === "-" ? ByteSource.standardInput() : ByteSource.open(path), format);
  }

  close(): void {
    this.closing.abort();
    this.source.close();
  }

  /** Hands over what comes, no faster than it is taken, until closed. `has`: whether the device has such events. */
  async pass(groups: Groups, has: (event: InputEvent) => boolean, log: Log): Promise<void> {
    const { signal } = this.closing;
    const becameDry = (reason: string) => log.info({ reason }, "no more events come for now");
    for (;;) {
      await groups.room();
      const bytes = await this.source.some(READ_BYTES, signal, becameDry).catch(() => undefined);
      if (bytes === undefined) return;
      // The driver may have gone meanwhile.
      await groups.room();
      for (const { event, text } of this.split(Buffer.concat([this.rest, bytes]))) {
        if (event && has(event)) groups.next(event);
        else log.warn({ event: text ?? event }, "the device has no such event: it is left out");
      }
    }
  }

  private split(bytes: Buffer): { event: InputEvent | undefined; text?: string }[] {
    const size = this.format === "text" ? undefined : SIZES[this.format];
    const end = size === undefined ? bytes.lastIndexOf("\n") + 1 : bytes.length - (bytes.length % size);
    // No line is as long as that: its rest is another one.
    this.rest = bytes.subarray(bytes.length - end > LINE_MAX ? bytes.length : end);
    if (size !== undefined) return decodeEvents(bytes.subarray(0, end), size).map((event) => ({ event }));
    return bytes
      .toString("utf8", 0, end)
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((text) => ({ event: eventOf(text), text }));
  }
}

/** Such as "EV_KEY KEY_A 1", or "1 30 1". */
function eventOf(line: string): InputEvent | undefined {
  const [first = "", second = "", third = "", ...more] = line.split(/\s+/);
  const type = typeNamed(first) ?? numberOf(first);
  const code = codesOf(type).get(second) ?? numberOf(second);
  const value = numberOf(third);
  const isEvent = more.length === 0 && type >= 0 && code >= 0 && value === (value | 0);
  return isEvent ? { type, code, value } : undefined;
}

/** NaN for what is none. */
function numberOf(text: string): number {
  return /^(-?\d+|0x[0-9a-f]+)$/i.test(text) ? Number(text) : Number.NaN;
}
