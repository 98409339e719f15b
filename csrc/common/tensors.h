// Shapes and strides of tensors, for every backend. Strides and offsets are in elements.
//
// In the namespace of the backend or instruction set that includes it, as no symbol may be shared
// among these.
#pragma once

#include "kernel.h"

namespace dl::DL_LEVEL {

// Elements of the axes [first, last).
inline int64_t count(const Tensor& t, int first, int last) {
  int64_t n = 1;
  for (int a = first; a < last; ++a) n *= t.shape[a];
  return n;
}

// Where element i, in row-major order over the axes [first, last), lies.
inline int64_t offset(const Tensor& t, int first, int last, int64_t i) {
  int64_t at = 0;
  for (int a = last - 1; a >= first; --a) {
    at += i % t.shape[a] * t.stride[a];
    i /= t.shape[a];
  }
  return at;
}

// Are the axes [first, last) one run of neighbouring elements? Axes of one element may have any
// stride.
inline bool is_dense(const Tensor& t, int first, int last) {
  int64_t run = 1;
  for (int a = last - 1; a >= first; --a) {
    if (t.shape[a] != 1 && t.stride[a] != run) return false;
    run *= t.shape[a];
  }
  return true;
}

inline bool same_shape(const Tensor& a, int a_first, const Tensor& b, int b_first) {
  if (a.rank - a_first != b.rank - b_first) return false;
  for (int k = 0; k < a.rank - a_first; ++k) {
    if (a.shape[a_first + k] != b.shape[b_first + k]) return false;
  }
  return true;
}

#ifndef DL_HALVES
#define DL_HALVES false
#endif

constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::f64; }
// Where a backend stores halves, those of its kernels that say so take them for floats.
constexpr bool is_float_or_half(DType t) {
  return is_float(t) || (DL_HALVES && (t == DType::bf16 || t == DType::f16));
}

// What elements of type t are computed as.
constexpr DType compute_type(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace dl::DL_LEVEL
