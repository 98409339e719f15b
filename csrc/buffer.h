// Memory of programs, and byte ranges in 64-bit arithmetic that refuses to overflow.
#pragma once

#include <cstdint>
#include <memory>

#include "kernel.h"

namespace dl {

// Zeroed memory, aligned to a cache line; from 2 MiB on to a huge page, which is asked for.
class Buffer {
 public:
  explicit Buffer(int64_t bytes = 0);  // throws std::bad_alloc
  char* data() const { return data_.get(); }

  static int64_t rounded(int64_t bytes);  // what Buffer(bytes) takes

 private:
  struct Free {
    void operator()(char* p) const;
  };
  std::unique_ptr<char, Free> data_;
};

// Bytes [low, high) beside some address.
struct Range {
  int64_t low = 0, high = 0;
};

// Throw std::invalid_argument on overflow.
int64_t checked_add(int64_t a, int64_t b);
int64_t checked_multiply(int64_t a, int64_t b);

// Bytes that a tensor touches around its data pointer; an empty range if it has no elements.
Range extent_of(const Tensor& t);
Range shifted(Range r, int64_t by);
Range hull(Range a, Range b);
bool inside(Range inner, Range outer);
inline bool is_empty(Range r) { return r.low == r.high; }

}  // namespace dl
