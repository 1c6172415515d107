// A driver that builds what the input says: rings, whole requests with a mutation here and there, and plain garbage.
#pragma once
#include "input.h"
#include "model.h"

class Driver {
 public:
  /** Lays the ring out in guest memory. False if it doesn't fit anywhere. */
  bool layOut(Input& input, uint32_t index, Ring& ring);
  /** A request, whole or nearly so, made available. */
  void addRequest(Input& input, const Ring& ring);
  /** One descriptor, whatever it is. */
  void writeDescriptor(Input& input, const Ring& ring);
  /** Moves what says that something is available. */
  void publish(Input& input, const Ring& ring);
  /** What says when to call. */
  void writeWish(Input& input, const Ring& ring);
  /** Where the ring begins, for a driver and a device that have not met. */
  uint32_t start(Input& input, const Ring& ring);

 private:
  /** Split: the next avail index and free descriptor. Packed: the next slot and its lap. */
  uint16_t availIdx_ = 0;
  uint32_t nextFree_ = 0;
  uint32_t slot_ = 0;
  bool wrap_ = true;

  std::vector<Buffer> buildRequest(Input& input);
  void putSplit(Input& input, const Ring& ring, const std::vector<Buffer>& buffers);
  void putPacked(Input& input, const Ring& ring, const std::vector<Buffer>& buffers);
  Buffer putTable(Input& input, const std::vector<Buffer>& buffers, bool isPacked);
  uint16_t lapFlags() const;
  void nextSlot(const Ring& ring);
};
