// The fuzzer's bytes, as numbers. Past their end all is 0, so that every input means something.
#pragma once
#include <cstddef>
#include <cstdint>

class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

  bool isEmpty() const { return at_ == end_; }
  uint8_t byte() { return at_ < end_ ? *at_++ : 0; }
  bool flag() { return (byte() & 1) != 0; }
  uint32_t below(uint32_t count) { return byte() % count; }
  uint16_t u16() { return static_cast<uint16_t>(byte() | byte() << 8); }
  uint32_t u32() { return u16() | static_cast<uint32_t>(u16()) << 16; }
  uint64_t u64() { return u32() | static_cast<uint64_t>(u32()) << 32; }

  template <typename T, size_t N>
  T pick(const T (&choices)[N]) {
    return choices[below(N)];
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};
