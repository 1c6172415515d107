// The buffers of a request, one by one, in the order of its chain: header, data, status.
import { BLK_HEADER_SIZE } from "../spec/virtio-blk.ts";
import { DESC_ADDR, DESC_LEN, VIRTQ_DESC_F_WRITE } from "../spec/virtqueue.ts";
import { Queue, Slot, STATUS_OFFSET } from "./queue.ts";

/** Writes address and length of buffer `k` into a descriptor of either format, and returns its flags. */
export function writeBuffer(at: usize, queue: Queue, slot: Slot, k: u32): u32 {
  if (k === 0) {
    writeAddrLen(at, slot.headerGpa, BLK_HEADER_SIZE);
    return 0;
  }
  if (k > queue.segments) {
    writeAddrLen(at, slot.headerGpa + STATUS_OFFSET, 1);
    return VIRTQ_DESC_F_WRITE;
  }
  const gpa = slot.dataGpa + <u64>(k - 1) * queue.segmentStride;
  writeAddrLen(at, gpa, queue.blockBytes / queue.segments);
  return slot.isRead ? VIRTQ_DESC_F_WRITE : 0;
}

export function writeAddrLen(at: usize, gpa: u64, byteLength: u32): void {
  store<u64>(at, gpa, DESC_ADDR);
  store<u32>(at, byteLength, DESC_LEN);
}
