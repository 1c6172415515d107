#include "model.h"

#include <algorithm>

#include "device.h"

namespace {

struct Descriptor {
  uint64_t gpa;
  uint32_t length;
  uint16_t flags;
  /** Split: next. Packed: id. */
  uint16_t other;
};

Descriptor decode(const uint8_t* bytes, bool isPacked) {
  Descriptor descriptor;
  memcpy(&descriptor.gpa, bytes, 8);
  memcpy(&descriptor.length, bytes + 8, 4);
  memcpy(&descriptor.flags, bytes + (isPacked ? PACKED_DESC_FLAGS : DESC_FLAGS), 2);
  memcpy(&descriptor.other, bytes + (isPacked ? PACKED_DESC_ID : DESC_NEXT), 2);
  return descriptor;
}

bool isGuestMemory(uint64_t gpa, uint64_t length) {
  while (length > 0) {
    const int region = guest::regionOf(gpa);
    if (region < 0) return false;
    const uint64_t rest = guest::regions[region].length - (gpa - guest::regions[region].gpa);
    if (rest >= length) return true;
    gpa += rest;
    length -= rest;
  }
  return true;
}

/** False if the chain is broken by it. */
bool addBuffer(Chain& chain, const Descriptor& descriptor) {
  const bool isWritable = (descriptor.flags & VIRTQ_DESC_F_WRITE) != 0;
  if (chain.hasWritable && !isWritable) return false;
  if (isWritable && descriptor.length > 0) chain.hasWritable = true;
  chain.buffers.push_back({descriptor.gpa, descriptor.length, isWritable});
  return isGuestMemory(descriptor.gpa, descriptor.length);
}

bool walkTable(Chain& chain, const Descriptor& table, bool isPacked) {
  if (table.length == 0 || table.length % DESC_SIZE != 0) return false;
  const uint32_t count = table.length / DESC_SIZE;
  uint32_t read = 0;
  for (uint32_t position = 0;;) {
    if (position >= count) return false;
    if (++read > std::min<uint32_t>(count, TABLE_MAX)) return false;
    const uint64_t gpa = table.gpa + uint64_t{position} * DESC_SIZE;
    uint8_t bytes[DESC_SIZE];
    if (!guest::read(gpa, bytes, DESC_SIZE)) return false;
    chain.sources.push_back({gpa, DESC_SIZE});
    const Descriptor descriptor = decode(bytes, isPacked);
    if (!isPacked && (descriptor.flags & VIRTQ_DESC_F_INDIRECT) != 0) return false;
    if (!addBuffer(chain, descriptor)) return false;
    const bool hasMore = isPacked ? position + 1 < count : (descriptor.flags & VIRTQ_DESC_F_NEXT) != 0;
    if (!hasMore) return true;
    position = isPacked ? position + 1 : descriptor.other;
  }
}

bool walkRing(Chain& chain, const Ring& ring, uint32_t position) {
  while (true) {
    if (chain.count >= ring.size || position >= ring.size) return false;
    const uint32_t ptr = ring.desc + position * DESC_SIZE;
    const Descriptor descriptor = decode(memory::base + ptr, ring.isPacked);
    chain.count++;
    if (ring.isPacked) chain.id = descriptor.other;
    else chain.sources.push_back({gpaOfRing(ptr), DESC_SIZE});
    const bool hasMore = (descriptor.flags & VIRTQ_DESC_F_NEXT) != 0;
    if ((descriptor.flags & VIRTQ_DESC_F_INDIRECT) != 0) {
      const bool isAllowed = !hasMore && (!ring.isPacked || chain.count == 1);
      return isAllowed && walkTable(chain, descriptor, ring.isPacked);
    }
    if (!addBuffer(chain, descriptor)) return false;
    if (!hasMore) return true;
    position = ring.isPacked ? (position + 1) % ring.size : descriptor.other;
  }
}

void appendHost(std::vector<Span>& spans, uint64_t gpa, uint64_t length) {
  while (length > 0) {
    const Region& region = guest::regions[guest::regionOf(gpa)];
    const uint64_t part = std::min(length, region.length - (gpa - region.gpa));
    appendSpan(spans, region.hostAddress + (gpa - region.gpa), part);
    gpa += part;
    length -= part;
  }
}

void expectTransfer(Expectation& expectation, Kind kind, uint64_t sector, uint64_t length) {
  expectation.status = VIRTIO_BLK_S_IOERR;
  if (expectation.data.size() > uint64_t{device.requestCount} * IOVECS_MAX) return;
  if (length % SECTOR_SIZE != 0 || !device.holds(sector, length / SECTOR_SIZE)) return;
  expectation.status = VIRTIO_BLK_S_OK;
  if (length == 0) return;
  expectation.status = VIRTIO_BLK_S_IOERR;
  if (device.refusesPart(sector << SECTOR_SHIFT) || device.refusesPart(length)) return;
  expectation.status = STATUS_UNKNOWN;
  expectation.isLong = expectation.data.size() > IOVECS_MAX;
  expectation.kind = kind;
  expectation.fileOffset = sector << SECTOR_SHIFT;
  expectation.remaining = length;
}

int rangeStatus(const uint8_t* range, bool isDiscard) {
  uint64_t sector;
  uint32_t count, flags;
  memcpy(&sector, range + RANGE_SECTOR, 8);
  memcpy(&count, range + RANGE_NUM_SECTORS, 4);
  memcpy(&flags, range + RANGE_FLAGS, 4);
  if (count > (isDiscard ? device.maxDiscard : device.maxWriteZeroes)) return VIRTIO_BLK_S_IOERR;
  if (!device.holds(sector, count)) return VIRTIO_BLK_S_IOERR;
  if (device.refusesPart(sector << SECTOR_SHIFT) || device.refusesPart(uint64_t{count} << SECTOR_SHIFT)) return VIRTIO_BLK_S_IOERR;
  const uint32_t known = isDiscard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
  return (flags & ~known) != 0 ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_OK;
}

void expectRanges(Expectation& expectation, const std::vector<uint8_t>& bytes) {
  const bool isDiscard = expectation.type == VIRTIO_BLK_T_DISCARD;
  for (size_t at = 0; at < bytes.size(); at += RANGE_SIZE) {
    expectation.status = rangeStatus(&bytes[at], isDiscard);
    if (expectation.status != VIRTIO_BLK_S_OK) return;
    uint64_t sector;
    uint32_t count;
    memcpy(&sector, &bytes[at] + RANGE_SECTOR, 8);
    memcpy(&count, &bytes[at] + RANGE_NUM_SECTORS, 4);
    if (count > 0) expectation.ranges.push_back({sector << SECTOR_SHIFT, uint64_t{count} << SECTOR_SHIFT});
  }
  if (isDiscard && !device.unmaps) return;
  if (expectation.ranges.empty() && !device.isWriteThrough) return;
  expectation.status = STATUS_UNKNOWN;
  expectation.kind = Kind::Ranges;
}

/** The first bytes of a chain's readable part, as far as they are wanted. */
std::vector<uint8_t> readable(const Chain& chain, uint64_t skip, uint64_t length) {
  std::vector<uint8_t> bytes;
  for (const Buffer& buffer : chain.buffers) {
    if (buffer.isWritable) continue;
    const uint64_t skipped = std::min<uint64_t>(skip, buffer.length);
    skip -= skipped;
    const uint64_t part = std::min<uint64_t>(buffer.length - skipped, length - bytes.size());
    const size_t at = bytes.size();
    bytes.resize(at + part);
    guest::read(buffer.gpa + skipped, bytes.data() + at, static_cast<uint32_t>(part));
  }
  return bytes;
}

void collectOut(const Chain& chain, std::vector<Span>& data) {
  uint64_t skip = BLK_HEADER_SIZE;
  for (const Buffer& buffer : chain.buffers) {
    if (buffer.isWritable) continue;
    const uint64_t skipped = std::min<uint64_t>(skip, buffer.length);
    skip -= skipped;
    appendHost(data, buffer.gpa + skipped, buffer.length - skipped);
  }
}

void collectIn(const Chain& chain, std::vector<Span>& data, uint64_t length) {
  for (const Buffer& buffer : chain.buffers) {
    if (!buffer.isWritable) continue;
    const uint64_t part = std::min<uint64_t>(length, buffer.length);
    appendHost(data, buffer.gpa, part);
    length -= part;
  }
}

}  // namespace

uint64_t gpaOfRing(uint32_t ptr) {
  return guest::gpaOfOffset(static_cast<uint32_t>(guest::offsetOf(ptr, 1, true)));
}

void appendSpan(std::vector<Span>& spans, uint64_t start, uint64_t length) {
  if (!spans.empty() && spans.back().start + spans.back().length == start) spans.back().length += length;
  else spans.push_back({start, length});
}

Chain walk(const Ring& ring, uint32_t position) {
  Chain chain;
  chain.id = static_cast<uint16_t>(position);
  chain.isBroken = !walkRing(chain, ring, position);
  return chain;
}

Charge chargeOf(const Chain& chain) {
  uint64_t outBytes = 0, inBytes = 0;
  for (const Buffer& buffer : chain.buffers) (buffer.isWritable ? inBytes : outBytes) += buffer.length;
  if (outBytes < BLK_HEADER_SIZE || inBytes == 0) return {};
  outBytes -= BLK_HEADER_SIZE;
  uint32_t type;
  memcpy(&type, readable(chain, 0, BLK_HEADER_SIZE).data() + BLK_HEADER_TYPE, 4);
  if (type == VIRTIO_BLK_T_IN) return {true, true, inBytes - 1};
  if (type == VIRTIO_BLK_T_OUT) return {true, false, outBytes};
  if (type != VIRTIO_BLK_T_DISCARD && type != VIRTIO_BLK_T_WRITE_ZEROES) return {};
  // What has more ranges than may be is refused unread.
  if (outBytes > uint64_t{RANGE_SIZE} * device.maxRanges) return {true, false, 0};
  const std::vector<uint8_t> ranges = readable(chain, BLK_HEADER_SIZE, outBytes);
  uint64_t sectors = 0;
  for (size_t at = 0; at + RANGE_SIZE <= ranges.size(); at += RANGE_SIZE) {
    uint32_t count;
    memcpy(&count, &ranges[at] + RANGE_NUM_SECTORS, 4);
    sectors += count;
  }
  return {true, false, sectors << SECTOR_SHIFT};
}

Expectation expect(const Chain& chain) {
  Expectation expectation;
  uint64_t outBytes = 0;
  for (const Buffer& buffer : chain.buffers) {
    if (!buffer.isWritable) outBytes += buffer.length;
    if (!buffer.isWritable || buffer.length == 0) continue;
    expectation.inBytes += buffer.length;
    expectation.statusGpa = buffer.gpa + buffer.length - 1;
  }
  expectation.status = STATUS_NONE;
  if (outBytes < BLK_HEADER_SIZE || expectation.inBytes == 0) return expectation;
  outBytes -= BLK_HEADER_SIZE;
  const std::vector<uint8_t> header = readable(chain, 0, BLK_HEADER_SIZE);
  uint64_t sector;
  memcpy(&expectation.type, &header[BLK_HEADER_TYPE], 4);
  memcpy(&sector, &header[BLK_HEADER_SECTOR], 8);
  expectation.status = VIRTIO_BLK_S_IOERR;
  switch (expectation.type) {
    case VIRTIO_BLK_T_IN:
      collectIn(chain, expectation.data, expectation.inBytes - 1);
      expectTransfer(expectation, Kind::Read, sector, expectation.inBytes - 1);
      break;
    case VIRTIO_BLK_T_OUT:
      if (device.isReadOnly) break;
      collectOut(chain, expectation.data);
      expectTransfer(expectation, Kind::Write, sector, outBytes);
      break;
    case VIRTIO_BLK_T_FLUSH:
      expectation.kind = Kind::Flush;
      expectation.status = STATUS_UNKNOWN;
      break;
    case VIRTIO_BLK_T_GET_ID:
      expectation.status = VIRTIO_BLK_S_OK;
      break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      if (device.isReadOnly) break;
      if (outBytes > uint64_t{RANGE_SIZE} * device.maxRanges) expectation.status = VIRTIO_BLK_S_UNSUPP;
      else if (outBytes != 0 && outBytes % RANGE_SIZE == 0) expectRanges(expectation, readable(chain, BLK_HEADER_SIZE, outBytes));
      break;
    default:
      expectation.status = VIRTIO_BLK_S_UNSUPP;
  }
  return expectation;
}

Expectation expectChain(const Chain& chain, uint32_t queue, bool mayPark) {
  Expectation expectation;
  expectation.queue = queue;
  expectation.mayPark = mayPark;
  std::vector<Span> writable;
  for (const Buffer& buffer : chain.buffers) {
    appendHost(buffer.isWritable ? writable : expectation.data, buffer.gpa, buffer.length);
    if (buffer.isWritable) expectation.inBytes += buffer.length;
  }
  expectation.readableCount = expectation.data.size();
  expectation.data.insert(expectation.data.end(), writable.begin(), writable.end());
  const bool isTooLong = expectation.data.size() > IOVECS_MAX;
  expectation.kind = isTooLong ? Kind::Nothing : Kind::Chain;
  expectation.status = isTooLong ? STATUS_NONE : STATUS_UNKNOWN;
  return expectation;
}

uint32_t Expectation::usedLength() const {
  if (status == STATUS_NONE) return usedBytes;
  if (status != VIRTIO_BLK_S_OK) return 1;
  if (type == VIRTIO_BLK_T_IN) return static_cast<uint32_t>(inBytes);
  if (type == VIRTIO_BLK_T_GET_ID) return static_cast<uint32_t>(std::min<uint64_t>(VIRTIO_BLK_ID_BYTES, inBytes - 1) + 1);
  return 1;
}

bool Expectation::isDirectable() const {
  uint64_t bits = fileOffset;
  for (const Span& span : data) bits |= span.start | span.length;
  return (bits & device.directMask) == 0;
}

uint64_t Expectation::bouncePiece() const {
  if (!device.bounces || isDirectable() || ((fileOffset | remaining) & device.directMask) != 0) return 0;
  return std::min<uint64_t>(remaining, BOUNCE_SIZE) & ~uint64_t{device.directMask};
}

bool Expectation::takesRetry(int32_t result) {
  if (result != -EINTR && result != -EAGAIN && result != -ECANCELED) {
    retries = 0;
    return false;
  }
  if (++retries > 64) status = VIRTIO_BLK_S_IOERR;
  return true;
}

void Expectation::advance(const Sqe& sqe, int32_t result) {
  if (kind == Kind::Chain) {
    isParked = mayPark && result == CHAIN_PARKED;
    if (!isParked) status = STATUS_NONE;
    // A failure of which the driver was told has its length, too.
    const int64_t told = int64_t{result} - CHAIN_FAILED;
    const int64_t length = told < CHAIN_FAILED_LIMIT ? told : result;
    if (length > 0) usedBytes = static_cast<uint32_t>(std::min<uint64_t>(length, inBytes));
    return;
  }
  if (kind == Kind::Ranges) {
    const bool isRetried = result == -EINTR || result == -EAGAIN || result == -ECANCELED;
    if (sqe.opcode == IORING_OP_FSYNC && result != 0 && !isRetried) device.failSync();
    return;
  }
  if (takesRetry(result)) return;
  if (kind == Kind::Flush) {
    if (result != 0) device.failSync();
    status = result == 0 && !device.hasSyncFailed ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
    return;
  }
  const bool isCopy = sqe.fd == BOUNCE_FD;
  if (!isCopy && result < 0 && isSyncAsked && device.keepsSync) {
    isSyncAsked = false;
    isSyncDoubted = true;
  } else if (isCopy || engine::usesBounceBuffer(sqe)) {
    advanceBounce(sqe, result);
  } else {
    advanceMoved(result);
  }
}

/** A write is copied, then moved to the disk, which may take less; a read the other way round. */
void Expectation::advanceBounce(const Sqe& sqe, int32_t result) {
  uint64_t length = 0;
  for (const Span& span : sqe.data()) length += span.length;
  const bool isCopy = sqe.fd == BOUNCE_FD;
  const bool isFirst = isCopy == (kind == Kind::Write);
  bounced = 0;
  if (result <= 0 || static_cast<uint64_t>(result) > length || (isCopy && static_cast<uint64_t>(result) < length)) {
    status = VIRTIO_BLK_S_IOERR;
  } else if (isFirst) {
    bounced = static_cast<uint64_t>(result);
  } else {
    advanceMoved(result);
  }
}

void Expectation::advanceMoved(int32_t result) {
  if (result <= 0 || static_cast<uint64_t>(result) > remaining) {
    status = VIRTIO_BLK_S_IOERR;
    return;
  }
  fileOffset += result;
  remaining -= result;
  if (remaining == 0) {
    if (isSyncDoubted) device.failSync();
    const bool isUnsound = (isSyncAsked || isSyncDoubted) && device.hasSyncFailed;
    status = isUnsound ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
  }
  for (uint64_t moved = result; moved > 0;) {
    const uint64_t part = std::min(moved, data.front().length);
    data.front().start += part;
    data.front().length -= part;
    moved -= part;
    if (data.front().length == 0) data.erase(data.begin());
  }
}
