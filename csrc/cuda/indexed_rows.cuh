// Rows that an index names, for gather and scatter_add.
#pragma once

#include "cuda/elements.cuh"

#include "common/gather.h"

namespace dl::cuda {

constexpr int kRowThreads = 256;

// The last axes of two tensors of one shape, merged where both allow it.
struct RowAxes {
  int rank;
  int64_t shape[kMaxRank], stride[2][kMaxRank];

  __device__ int64_t offset(int which, int64_t i) const {
    int64_t at = 0;
    for (int a = rank - 1; a > 0; --a) {
      const int64_t q = i / shape[a];
      at += (i - q * shape[a]) * stride[which][a];
      i = q;
    }
    return at + i * stride[which][0];
  }
};

inline RowAxes merge_axes(const Tensor& x, const Tensor& y) {
  RowAxes m{};
  for (int a = 1; a < x.rank; ++a) {
    if (x.shape[a] == 1) continue;
    const int end = m.rank - 1;
    const int64_t n = x.shape[a];
    if (m.rank > 0 && m.stride[0][end] == n * x.stride[a] && m.stride[1][end] == n * y.stride[a]) {
      m.shape[end] *= n;
    } else {
      m.shape[m.rank++] = n;
    }
    m.stride[0][m.rank - 1] = x.stride[a], m.stride[1][m.rank - 1] = y.stride[a];
  }
  if (m.rank == 0) m.rank = 1, m.shape[0] = 1;
  return m;
}

// Do packs of V lie whole and aligned in all rows of x, the tensor `which` of the axes?
inline bool is_packed(const Tensor& x, const RowAxes& axes, int which, int V) {
  const int64_t bytes = V * size_of(x.dtype);
  return axes.rank == 1 && axes.shape[0] % V == 0 &&
         (axes.shape[0] == 1 || axes.stride[which][0] == 1) && x.stride[0] % V == 0 &&
         is_aligned(x.data, bytes < 16 ? static_cast<size_t>(bytes) : 16);
}

struct Index {
  const char* data;
  DType dtype;
  int64_t stride;

  __device__ int64_t operator[](int64_t l) const {
    return dtype == DType::i32 ? reinterpret_cast<const int32_t*>(data)[l * stride]
                               : reinterpret_cast<const int64_t*>(data)[l * stride];
  }
};

inline Index index_of(const Tensor& t) { return {t.data, t.dtype, t.stride[0]}; }

}  // namespace dl::cuda
