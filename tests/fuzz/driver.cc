#include "driver.h"

#include <algorithm>

namespace {

constexpr uint32_t SPLIT_SIZES[] = {4, 8, 16, 2, 512};
constexpr uint32_t PACKED_SIZES[] = {4, 8, 5, 2, 16, 513};
constexpr uint32_t TYPES[] = {
    VIRTIO_BLK_T_IN,     VIRTIO_BLK_T_OUT,          VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, 1000,
};
constexpr uint32_t LENGTHS[] = {512, 1024, 1, 4096, 20, 16, 0, 0xffffffff, 511, 0x8000};

/** Headers, ranges and statuses lie here in each region, data behind them; rings lie in front. */
constexpr uint32_t HEADERS = 5 * GUEST_PAGE;

uint32_t align(uint32_t ptr, uint32_t to) { return (ptr + to - 1) & ~(to - 1); }

uint64_t pickInfo(Input& input) {
  const uint8_t byte = input.byte();
  const Region& region = guest::regions[byte % guest::regions.size()];
  return byte >= 0xf0 ? guest::pickGpa(input) : region.gpa + HEADERS + (byte >> 2) * 48;
}

uint64_t pickData(Input& input) {
  const uint8_t byte = input.byte();
  const Region& region = guest::regions[byte % guest::regions.size()];
  return byte >= 0xe0 ? guest::pickGpa(input) : region.gpa + 6 * GUEST_PAGE + (byte >> 2) * 64;
}

template <typename T>
void put(uint32_t ptr, T value) {
  memory::store<T>(ptr, value);
}

void putDescriptor(uint8_t* at, const Buffer& buffer, uint16_t atTwelve, uint16_t atFourteen) {
  memcpy(at, &buffer.gpa, 8);
  memcpy(at + 8, &buffer.length, 4);
  memcpy(at + 12, &atTwelve, 2);
  memcpy(at + 14, &atFourteen, 2);
}

void storeDescriptor(uint32_t ptr, const Buffer& buffer, uint16_t atTwelve, uint16_t atFourteen) {
  memory::markDirty(ptr, DESC_SIZE);
  putDescriptor(memory::base + ptr, buffer, atTwelve, atFourteen);
}

uint16_t flagsOf(const Buffer& buffer) { return buffer.isWritable ? VIRTQ_DESC_F_WRITE : 0; }

/** Now and then a bit is not as it should be. */
uint16_t mutated(Input& input, uint16_t flags) {
  const uint8_t byte = input.byte();
  return byte >= 0xf8 ? flags ^ static_cast<uint16_t>(1 << (byte & 7)) : flags;
}

uint64_t pickSector(Input& input) {
  const uint8_t byte = input.byte();
  if (byte == 0xff) return input.u64();
  return byte >= 0xf0 ? uint64_t{0} - (byte & 15) : byte * 2;
}

void writeHeader(Input& input, uint64_t gpa, uint32_t type) {
  uint8_t header[BLK_HEADER_SIZE] = {};
  const uint64_t sector = pickSector(input);
  memcpy(header + BLK_HEADER_TYPE, &type, 4);
  memcpy(header + BLK_HEADER_SECTOR, &sector, 8);
  guest::write(gpa, header, sizeof header);
}

void writeRange(Input& input, uint64_t gpa) {
  uint8_t range[RANGE_SIZE];
  const uint64_t sector = pickSector(input);
  const uint32_t count = input.below(4) == 3 ? input.u32() : input.below(32);
  const uint32_t flags = input.below(4) == 3 ? input.byte() : input.below(2);
  memcpy(range + RANGE_SECTOR, &sector, 8);
  memcpy(range + RANGE_NUM_SECTORS, &count, 4);
  memcpy(range + RANGE_FLAGS, &flags, 4);
  guest::write(gpa, range, sizeof range);
}

}  // namespace

bool Driver::layOut(Input& input, uint32_t index, Ring& ring) {
  const uint8_t shape = input.byte();
  ring.isPacked = (shape & 1) != 0;
  ring.hasEventIdx = (shape & 2) != 0;
  ring.size = ring.isPacked ? PACKED_SIZES[(shape >> 4) % 6] : SPLIT_SIZES[(shape >> 4) % 5];
  if (index > 0) ring.size = std::min<uint32_t>(ring.size, 16);
  // The second ring lies behind the first, or anywhere, even over it.
  const bool isTidy = (shape & 12) != 12;
  const uint32_t region = isTidy ? 0 : input.below(static_cast<uint32_t>(guest::regions.size()));
  const uint32_t start = isTidy ? index * 4 * GUEST_PAGE : align(input.u16() % REGION_SIZE, 16);
  const uint32_t first = WHOLE_PTR + region * WHOLE_STRIDE;
  ring.desc = first + start;
  ring.driver = align(ring.desc + ring.size * DESC_SIZE, 4);
  ring.device = ring.isPacked ? ring.driver + EVENT_SUPPRESS_SIZE
                              : align(ring.driver + ring.size * AVAIL_RING_ENTRY_SIZE + AVAIL_FIXED_SIZE, 4);
  const uint32_t end = ring.device + (ring.isPacked ? EVENT_SUPPRESS_SIZE : ring.size * USED_ELEM_SIZE + USED_FIXED_SIZE);
  return end - first <= guest::regions[region].length;
}

uint32_t Driver::start(Input& input, const Ring& ring) {
  nextFree_ = 0;
  if (ring.isPacked) {
    const bool isFresh = input.below(4) != 0;
    slot_ = isFresh ? 0 : input.below(ring.size);
    wrap_ = isFresh || input.flag();
    const uint32_t position = slot_ | (wrap_ ? 0x8000 : 0);
    return position | position << 16;
  }
  availIdx_ = input.below(4) != 0 ? 0 : static_cast<uint16_t>(0 - input.below(8));
  put<uint16_t>(ring.driver + AVAIL_IDX, availIdx_);
  put<uint16_t>(ring.device + USED_IDX, availIdx_);
  return availIdx_;
}

std::vector<Buffer> Driver::buildRequest(Input& input) {
  const uint8_t shape = input.byte();
  const uint32_t type = shape % 8 == 7 ? input.u32() : TYPES[shape % 8];
  const uint64_t header = pickInfo(input);
  writeHeader(input, header, type);
  std::vector<Buffer> buffers = {{header, BLK_HEADER_SIZE, false}};
  const bool hasRanges = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
  const bool isWritable = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
  const uint32_t count = type == VIRTIO_BLK_T_FLUSH ? 0 : 1 + (shape >> 3) % 4;
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t gpa = hasRanges ? pickInfo(input) : pickData(input);
    if (hasRanges) writeRange(input, gpa);
    const uint8_t length = input.byte();
    buffers.push_back({gpa, hasRanges && length < 0xe0 ? RANGE_SIZE : LENGTHS[length % 10], isWritable});
  }
  // Data that a request of its type has no use for.
  if ((shape & 0x80) != 0) buffers.insert(buffers.begin() + 1, {pickData(input), input.pick(LENGTHS), false});
  buffers.push_back({pickInfo(input) + 16, 1, true});
  // Framing is free: sometimes the header is cut in two, sometimes the status lies behind the data.
  if ((shape & 0x20) != 0) {
    const uint32_t cut = 1 + input.below(BLK_HEADER_SIZE - 1);
    buffers.insert(buffers.begin(), {header, cut, false});
    buffers[1] = {header + cut, BLK_HEADER_SIZE - cut, false};
  }
  if ((shape & 0x40) != 0 && isWritable) {
    buffers.pop_back();
    buffers.back().length++;
  }
  return buffers;
}

/** An indirect table; sometimes one that is cut, loops, repeats itself or is very long. */
Buffer Driver::putTable(Input& input, const std::vector<Buffer>& buffers, bool isPacked) {
  const uint64_t gpa = input.below(4) == 0 ? guest::pickGpa(input) : guest::regions[0].gpa + 3 * GUEST_PAGE - input.below(4) * 24;
  const uint8_t kind = input.byte();
  const uint32_t copies = kind == 0xff ? 400 : 1;
  uint32_t at = 0;
  for (uint32_t copy = 0; copy < copies; copy++) {
    for (size_t i = copy == 0 ? 0 : 1; i < buffers.size() - (copy + 1 < copies ? 1 : 0); i++, at++) {
      const bool isLast = copy + 1 == copies && i + 1 == buffers.size();
      const uint16_t flags = mutated(input, flagsOf(buffers[i]) | (isLast || isPacked ? 0 : VIRTQ_DESC_F_NEXT));
      uint8_t bytes[DESC_SIZE];
      const uint16_t next = kind >= 0xf0 && kind != 0xff ? input.byte() : static_cast<uint16_t>(at + 1);
      putDescriptor(bytes, buffers[i], isPacked ? 0 : flags, isPacked ? flags : next);
      guest::write(gpa + at * DESC_SIZE, bytes, sizeof bytes);
    }
  }
  const uint32_t length = at * DESC_SIZE;
  return {gpa, kind == 0xe0 ? length + 1 : kind == 0xe1 ? 0 : kind == 0xe2 ? 0xfffffff0 : length, false};
}

void Driver::addRequest(Input& input, const Ring& ring) {
  std::vector<Buffer> buffers = buildRequest(input);
  if (ring.isPacked) putPacked(input, ring, buffers);
  else putSplit(input, ring, buffers);
}

void Driver::putSplit(Input& input, const Ring& ring, const std::vector<Buffer>& buffers) {
  const bool isIndirect = buffers.size() > ring.size || input.flag();
  const std::vector<Buffer> chain = isIndirect ? std::vector<Buffer>{putTable(input, buffers, false)} : buffers;
  const uint16_t head = static_cast<uint16_t>(nextFree_ % ring.size);
  for (size_t i = 0; i < chain.size(); i++) {
    const bool isLast = i + 1 == chain.size();
    const uint16_t flags = mutated(input, isIndirect ? VIRTQ_DESC_F_INDIRECT : flagsOf(chain[i]) | (isLast ? 0 : VIRTQ_DESC_F_NEXT));
    const uint32_t slot = nextFree_++ % ring.size;
    storeDescriptor(ring.desc + slot * DESC_SIZE, chain[i], flags, static_cast<uint16_t>(nextFree_ % ring.size));
  }
  put<uint16_t>(ring.driver + AVAIL_RING + (availIdx_ % ring.size) * 2, head);
  put<uint16_t>(ring.driver + AVAIL_IDX, ++availIdx_);
}

uint16_t Driver::lapFlags() const { return wrap_ ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED; }

void Driver::nextSlot(const Ring& ring) {
  if (++slot_ != ring.size) return;
  slot_ = 0;
  wrap_ = !wrap_;
}

void Driver::putPacked(Input& input, const Ring& ring, const std::vector<Buffer>& buffers) {
  const bool isIndirect = buffers.size() > ring.size || input.flag();
  const std::vector<Buffer> chain = isIndirect ? std::vector<Buffer>{putTable(input, buffers, true)} : buffers;
  const uint16_t id = input.below(8) == 0 ? input.u16() : static_cast<uint16_t>(nextFree_++ % ring.size);
  for (size_t i = 0; i < chain.size(); i++) {
    const bool isLast = i + 1 == chain.size();
    const uint16_t flags = isIndirect ? VIRTQ_DESC_F_INDIRECT : flagsOf(chain[i]) | (isLast ? 0 : VIRTQ_DESC_F_NEXT);
    storeDescriptor(ring.desc + slot_ * DESC_SIZE, chain[i], id, mutated(input, flags | lapFlags()));
    nextSlot(ring);
  }
}

void Driver::writeDescriptor(Input& input, const Ring& ring) {
  const uint32_t slot = input.u16() % ring.size;
  const Buffer buffer{guest::pickGpa(input), input.flag() ? input.pick(LENGTHS) : input.u32(), false};
  const uint16_t first = input.u16();
  storeDescriptor(ring.desc + slot * DESC_SIZE, buffer, first, input.u16());
}

void Driver::publish(Input& input, const Ring& ring) {
  if (ring.isPacked) {
    const uint32_t ptr = ring.desc + slot_ * PACKED_DESC_SIZE + PACKED_DESC_FLAGS;
    const uint16_t flags = memory::load<uint16_t>(ptr) & ~(VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED);
    put<uint16_t>(ptr, flags | lapFlags());
    nextSlot(ring);
    return;
  }
  const uint8_t kind = input.byte();
  if (kind >= 0xf0) {
    availIdx_ += input.u16();
  } else if (kind >= 0xe0) {
    // All that the ring can hold, again and again what is there.
    availIdx_ += static_cast<uint16_t>(ring.size);
  } else {
    put<uint16_t>(ring.driver + AVAIL_RING + (availIdx_ % ring.size) * 2, kind < 0xc0 ? kind % ring.size : input.u16());
    availIdx_++;
  }
  put<uint16_t>(ring.driver + AVAIL_IDX, availIdx_);
}

void Driver::writeWish(Input& input, const Ring& ring) {
  if (ring.isPacked) {
    put<uint16_t>(ring.driver + EVENT_OFF_WRAP, input.u16() & 0x801f);
    put<uint16_t>(ring.driver + EVENT_FLAGS, input.below(5));
    return;
  }
  put<uint16_t>(ring.driver + AVAIL_FLAGS, input.below(2));
  if (ring.hasEventIdx) put<uint16_t>(ring.driver + AVAIL_RING + ring.size * 2, availIdx_ + input.below(8) - 4);
}
