// The disk as the device block describes it.
#pragma once
#include "input.h"
#include "memory.h"

constexpr int FILE_FD = 3;
constexpr int UNALIGNED_FD = 4;
constexpr int CONTROL_FD = 5;
constexpr int BOUNCE_FD = 6;
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
  /** Its guest is moved from the start: writes are logged. */
  bool isMoved;
  bool unmaps;
  bool marksDiscards;
  /** There are bounce buffers. */
  bool bounces;
  /** Account is kept of whether flushes can be believed; and one has failed, as far as the kernel has answered. */
  bool keepsSync;
  bool hasSyncFailed;

  void failSync() { hasSyncFailed = keepsSync; }

  bool holds(uint64_t sector, uint64_t count) const {
    return sector % blockSectors == 0 && sector <= capacitySectors && count <= capacitySectors - sector;
  }
  /** Past the page cache, only whole blocks are served. */
  bool refusesPart(uint64_t bytes) const {
    return directMask != 0 && bytes % (uint64_t{blockSectors} * SECTOR_SIZE) != 0;
  }
};

extern Device device;

/** Begins with limits, and with a log, if the input says so. */
void setUpDevice(Input& input);
void setWriteThrough(bool isOn);
/** What the core itself has written of it, as a new process finds it. */
void resetDevice();
/** Whether the core says that no flush can be believed. */
bool coreSaysSyncFailed();
