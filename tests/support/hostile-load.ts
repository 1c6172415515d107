// A driver of a disk that writes anything at all into its ring: behind a sector of its own, so that what others rely on stays theirs.
import {
  BLK_HEADER_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../../assembly/spec/virtio-blk.ts";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Random } from "./random.ts";
import { ARENA_SIZE, RingTorment, SLOT } from "./ring-torment.ts";

/** Others might change sectors of the good part when a header is read anew as something else. */
const TYPES = [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, 0xdead];

export class HostileLoad extends RingTorment {
  constructor(
    frontEnd: FrontEnd,
    index: number,
    /** The first sector that it may write. */
    private readonly firstSector: number,
    random: Random,
  ) {
    super(frontEnd, index, random, [BLK_HEADER_SIZE, 1, SECTOR_SIZE, 8 * SECTOR_SIZE]);
  }

  /** Headers that may be honest, and rubbish between them. */
  protected override fillArena(): void {
    const { random, frontEnd, arena } = this;
    const bytes = random.bytes(ARENA_SIZE);
    const end = frontEnd.capacity - ARENA_SIZE / SECTOR_SIZE;
    for (let at = 0; at < ARENA_SIZE; at += SLOT) {
      encodeBlkHeader(random.pick(TYPES), random.between(this.firstSector, end)).copy(bytes, at);
    }
    frontEnd.memory.write(arena, bytes);
  }
}
