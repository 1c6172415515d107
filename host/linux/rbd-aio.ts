// Requests of an RBD image by addresses: they are queued and come back by an eventfd, in the thread that asks for them. Nothing of
// ours runs in the library's threads, and nothing is allocated here for a request.
import { cell, pointerIn } from "./librados.ts";
import { type RbdCalls, type RbdImage, rbdCalls } from "./librbd.ts";

/** rbd_set_image_notification: the descriptor is an eventfd. */
const EVENT_TYPE_EVENTFD = 2;
const RBD_WRITE_ZEROES_FLAG_THICK_PROVISION = 1;
/** Completions taken at a time. */
const EVENTS_MAX = 128;

export class RbdAio {
  private readonly calls: RbdCalls = rbdCalls();
  private readonly image: number;
  private readonly created = cell();
  private readonly events = Buffer.alloc(EVENTS_MAX * 8);

  /** Once for an image: the library writes `eventfd` when requests have completed. */
  constructor(image: RbdImage, eventfd: number) {
    this.image = image.handle;
    const result = this.calls.notify(this.image, eventfd, EVENT_TYPE_EVENTFD);
    if (result < 0) throw new Error(`rbd_set_image_notification: ${result}`);
  }

  /*
   * Each of these starts a request, which takeCompleted() tells of by its number. A negated errno says that it has not begun. SAFETY:
   * memory at `address`, and a table of vectors there, must stay until then. Offsets and lengths are whole numbers below 2^53.
   */

  read(request: number, offset: number, address: number, length: number): number {
    const completion = this.create(request);
    return this.begun(completion, this.calls.aioRead(this.image, offset, length, address, completion));
  }

  readVectors(request: number, offset: number, address: number, count: number): number {
    const completion = this.create(request);
    return this.begun(completion, this.calls.aioReadv(this.image, address, count, offset, completion));
  }

  write(request: number, offset: number, address: number, length: number): number {
    const completion = this.create(request);
    return this.begun(completion, this.calls.aioWrite(this.image, offset, length, address, completion));
  }

  writeVectors(request: number, offset: number, address: number, count: number): number {
    const completion = this.create(request);
    return this.begun(completion, this.calls.aioWritev(this.image, address, count, offset, completion));
  }

  flush(request: number): number {
    const completion = this.create(request);
    return this.begun(completion, this.calls.aioFlush(this.image, completion));
  }

  discard(request: number, offset: number, length: number): number {
    const completion = this.create(request);
    return this.begun(completion, this.calls.aioDiscard(this.image, offset, length, completion));
  }

  writeZeroes(request: number, offset: number, length: number, mayUnmap: boolean): number {
    const completion = this.create(request);
    const flags = mayUnmap ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION;
    return this.begun(
      completion,
      this.calls.aioWriteZeroes(this.image, offset, length, completion, flags, 0),
    );
  }

  /** Tells of all that have completed: the bytes that were read or 0, or a negated errno. */
  takeCompleted(tell: (request: number, result: number) => void): void {
    const { calls, events } = this;
    for (let count = EVENTS_MAX; count === EVENTS_MAX; ) {
      count = calls.pollEvents(this.image, events, EVENTS_MAX);
      for (let i = 0; i < count; i++) {
        const completion = pointerIn(events, i * 8);
        const request = calls.argument(completion);
        const result = calls.returnValue(completion);
        calls.release(completion);
        tell(request, Number(result));
      }
    }
  }

  private create(request: number): number {
    this.calls.createCompletion(request, 0, this.created);
    return pointerIn(this.created);
  }

  private begun(completion: number, result: number): number {
    if (result < 0) this.calls.release(completion);
    return result;
  }
}
