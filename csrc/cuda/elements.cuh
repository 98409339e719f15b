// Elements in memory: of any dtype, in packs of neighbours, along axes of any strides.
#pragma once

#include "cuda/launch.h"

#include "common/tensors.h"

namespace dl::cuda {

// V elements that one thread works on.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T v[V];
};

// An element of any dtype as T.
template <class T>
__device__ inline T load_element(const char* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::f32:
      return static_cast<T>(reinterpret_cast<const float*>(data)[i]);
    case DType::f64:
      return static_cast<T>(reinterpret_cast<const double*>(data)[i]);
    case DType::i32:
      return static_cast<T>(reinterpret_cast<const int32_t*>(data)[i]);
    case DType::i64:
      return static_cast<T>(reinterpret_cast<const int64_t*>(data)[i]);
    case DType::b8:
      return static_cast<T>(reinterpret_cast<const uint8_t*>(data)[i] != 0);
    default:
      return static_cast<T>(reinterpret_cast<const uint8_t*>(data)[i]);
  }
}

// Integers truncate, b8 tests against 0.
template <class T>
__device__ inline void store_element(char* data, DType dtype, int64_t i, T x) {
  switch (dtype) {
    case DType::f32:
      reinterpret_cast<float*>(data)[i] = static_cast<float>(x);
      break;
    case DType::f64:
      reinterpret_cast<double*>(data)[i] = static_cast<double>(x);
      break;
    case DType::i32:
      reinterpret_cast<int32_t*>(data)[i] = static_cast<int32_t>(x);
      break;
    case DType::i64:
      reinterpret_cast<int64_t*>(data)[i] = static_cast<int64_t>(x);
      break;
    case DType::b8:
      reinterpret_cast<uint8_t*>(data)[i] = x != T(0);
      break;
    default:
      reinterpret_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(static_cast<int64_t>(x));
  }
}

// Axes of a tensor, neighbours merged where memory allows, as an argument of a kernel.
struct Layout {
  int rank;
  int64_t shape[kMaxRank], stride[kMaxRank];

  // Where element i, in row-major order, lies.
  __device__ int64_t offset(int64_t i) const {
    if (rank == 1) return i * stride[0];
    int64_t at = 0;
    for (int a = rank - 1; a > 0; --a) {
      const int64_t q = i / shape[a];
      at += (i - q * shape[a]) * stride[a];
      i = q;
    }
    return at + i * stride[0];
  }
};

// The axes [first, last); rank is at least 1.
inline Layout layout_of(const Tensor& t, int first, int last) {
  Layout m{};
  for (int a = first; a < last; ++a) {
    if (t.shape[a] == 1) continue;
    const int end = m.rank - 1;
    if (m.rank > 0 && m.stride[end] == t.shape[a] * t.stride[a]) {
      m.shape[end] *= t.shape[a];
      m.stride[end] = t.stride[a];
    } else {
      m.shape[m.rank] = t.shape[a];
      m.stride[m.rank++] = t.stride[a];
    }
  }
  if (m.rank == 0) m.rank = 1, m.shape[0] = 1;
  return m;
}

inline bool is_aligned(const void* p, size_t bytes = 16) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

}  // namespace dl::cuda
