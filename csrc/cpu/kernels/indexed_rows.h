// Rows that an index names, for gather and scatter_add. Static, see level.h.
#pragma once

#include "common/gather.h"
#include "cpu/kernels/level.h"

namespace dl::DL_LEVEL {

constexpr int64_t kRowsAhead = 3;
constexpr int64_t kLineBytes = 64;
constexpr int64_t kRowPartBytes = 32 * 1024;  // about 2 to 10 us of work

// The axes of a row of two tensors of one shape, neighbours merged where both allow it; the last
// one is the run.
struct RowAxes {
  int rank;
  int64_t shape[kMaxRank], to_stride[kMaxRank], from_stride[kMaxRank];
};

inline RowAxes merge_axes(const Tensor& to, const Tensor& from) {
  RowAxes m{1, {1}, {1}, {1}};
  for (int a = 1; a < to.rank; ++a) {
    if (to.shape[a] == 1) continue;
    const int last = m.rank - 1;
    const int64_t n = to.shape[a], ts = to.stride[a], fs = from.stride[a];
    const bool joins = m.to_stride[last] == n * ts && m.from_stride[last] == n * fs;
    const bool first = m.rank == 1 && m.shape[0] == 1;
    const int at = joins || first ? last : m.rank++;
    m.shape[at] = joins && !first ? m.shape[at] * n : n;
    m.to_stride[at] = ts;
    m.from_stride[at] = fs;
  }
  return m;
}

// f(offset in to, offset in from) for every run of a row.
template <class F>
inline void each_run(const RowAxes& m, F&& f) {
  int64_t runs = 1;
  for (int a = 0; a < m.rank - 1; ++a) runs *= m.shape[a];
  for (int64_t r = 0; r < runs; ++r) {
    int64_t to = 0, from = 0, rest = r;
    for (int a = m.rank - 2; a >= 0; --a) {
      const int64_t i = rest % m.shape[a];
      rest /= m.shape[a];
      to += i * m.to_stride[a];
      from += i * m.from_stride[a];
    }
    f(to, from);
  }
}

inline int64_t index_at(const Tensor& index, int64_t i) {
  const int64_t at = i * index.stride[0];
  return index.dtype == DType::i32 ? index.as<int32_t>()[at] : index.as<int64_t>()[at];
}

inline bool in_range(int64_t i, int64_t n) {
  return static_cast<uint64_t>(i) < static_cast<uint64_t>(n);
}

}  // namespace dl::DL_LEVEL
