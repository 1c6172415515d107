#include "device.h"

#include "dirty-log.h"
#include "limits.h"

Device device;

namespace {
/** 200 KiB; odd; the largest file there is; more than a byte offset can say. */
constexpr uint64_t CAPACITIES[] = {400, 7, 0x7fffffffffffffff >> 9, 0, 0xffffffffffffffff >> 9};
constexpr uint32_t MASKS[] = {0, 511, 4095};
constexpr uint32_t BLOCKS[] = {1, 8};
constexpr uint32_t RANGE_LIMITS[] = {0x10000, 8, 0xffffffff};
constexpr uint32_t RANGES[] = {1, 2, 256};
constexpr uint32_t TURNS[] = {4, 0, 1, 0xffffffff};
}  // namespace

void setUpDevice(Input& input) {
  // What these bytes have room for beside: most guests are moved, and few are limited from the start.
  const uint8_t capacity = input.byte();
  const uint8_t mask = input.byte();
  device.capacitySectors = CAPACITIES[capacity % 5];
  device.directMask = MASKS[mask % 3];
  device.blockSectors = input.pick(BLOCKS);
  device.maxDiscard = input.pick(RANGE_LIMITS);
  device.maxWriteZeroes = input.pick(RANGE_LIMITS);
  device.maxRanges = input.pick(RANGES);
  const uint8_t flags = input.byte();
  device.isReadOnly = (flags & 7) == 7;
  device.unmaps = (flags & 8) != 0;
  device.marksDiscards = device.unmaps && (flags & 32) != 0;
  device.bounces = (flags & 1) != 0;
  device.keepsSync = (flags & 2) != 0;
  memory::store<uint64_t>(DEVICE_PTR + DEVICE_CAPACITY_SECTORS, device.capacitySectors);
  memory::store<uint64_t>(DEVICE_PTR + DEVICE_MEMORY_HOST_ADDRESS, MEMORY_HOST);
  memory::store<int32_t>(DEVICE_PTR + DEVICE_FILE_FD, FILE_FD);
  memory::store<int32_t>(DEVICE_PTR + DEVICE_UNALIGNED_FD, UNALIGNED_FD);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_DIRECT_MASK, device.directMask);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_BLOCK_SECTORS, device.blockSectors);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_READ_ONLY, device.isReadOnly);
  const uint32_t discards = device.unmaps ? DISCARD_UNMAPS : DISCARD_IGNORED;
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_DISCARD_UNMAPS, device.marksDiscards ? DISCARD_MARKED : discards);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_MAX_DISCARD_SECTORS, device.maxDiscard);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_MAX_WRITE_ZEROES_SECTORS, device.maxWriteZeroes);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_MAX_RANGES, device.maxRanges);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_TURN_REQUESTS, TURNS[flags >> 6]);
  for (uint32_t i = 0; i < VIRTIO_BLK_ID_BYTES; i++) {
    memory::store<uint8_t>(DEVICE_PTR + DEVICE_ID + i, static_cast<uint8_t>('a' + i));
  }
  memory::store<int32_t>(DEVICE_PTR + DEVICE_BOUNCE_FD, device.bounces ? BOUNCE_FD : 0);
  setWriteThrough((flags & 16) != 0);
  limits::setUp();
  if (mask / 3 % 8 == 7) limits::change(input);
  dirtylog::setUp();
  // Not yet: regions are not laid out.
  device.isMoved = capacity / 5 % 4 != 0;
}

void resetDevice() {
  device.hasSyncFailed = false;
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_FLUSHED, 0);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_SYNC_STATE, device.keepsSync ? SYNC_SOUND : SYNC_UNKEPT);
}

bool coreSaysSyncFailed() { return memory::load<uint32_t>(DEVICE_PTR + DEVICE_SYNC_STATE) == SYNC_FAILED; }

void setWriteThrough(bool isOn) {
  device.isWriteThrough = isOn;
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_WRITE_THROUGH, isOn);
}
