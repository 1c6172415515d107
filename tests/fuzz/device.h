// The disk as the device block describes it.
#pragma once
#include "input.h"
#include "memory.h"

constexpr int FILE_FD = 3;
constexpr int UNALIGNED_FD = 4;
constexpr int CONTROL_FD = 5;
constexpr int KICK_FD = 10;
constexpr int CALL_FD = 20;

struct Device {
  uint64_t capacitySectors;
  uint32_t directMask;
  uint32_t blockSectors;
  uint32_t maxDiscard;
  uint32_t maxWriteZeroes;
  uint32_t maxRanges;
  /** Requests of the worker: so many tables of I/O vectors. */
  uint32_t requestCount;
  bool isReadOnly;
  bool isWriteThrough;
  bool unmaps;
  bool marksDiscards;

  bool holds(uint64_t sector, uint64_t count) const {
    return sector % blockSectors == 0 && sector <= capacitySectors && count <= capacitySectors - sector;
  }
};

extern Device device;

void setUpDevice(Input& input);
void setWriteThrough(bool isOn);
