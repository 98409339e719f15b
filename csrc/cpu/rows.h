// Rows of neighbouring elements in vectors.
#pragma once

#include "common/tensors.h"
#include "cpu/simd.h"

namespace dl::DL_LEVEL {

// The first n < kLanes elements of a run by copies of 8, 4, 2 and 1: a call of memcpy costs more
// than the copy.
template <class T>
inline void copy_few(T* to, const T* from, int64_t n) {
  int64_t at = 0;
  if constexpr (kLanes < T >> 8) {
    if (n & 8) std::memcpy(to, from, 8 * sizeof(T)), at = 8;
  }
  if constexpr (kLanes < T >> 4) {
    if (n & 4) std::memcpy(to + at, from + at, 4 * sizeof(T)), at += 4;
  }
  if constexpr (kLanes < T >> 2) {
    if (n & 2) std::memcpy(to + at, from + at, 2 * sizeof(T)), at += 2;
  }
  if (n & 1) to[at] = from[at];
}

}  // namespace dl::DL_LEVEL
