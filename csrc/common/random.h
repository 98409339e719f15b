// What a call of random must look like, for every backend. See kernels.def.
#pragma once

#include <math.h>

#include "common/tensors.h"

namespace dl::DL_LEVEL {

enum RandomKind : int64_t { kUniform, kNormal, kBernoulli };

template <class T>
inline bool is_range(const double* floats) {
  const T low = static_cast<T>(floats[0]), high = static_cast<T>(floats[1]);
  return low <= high && high - low < static_cast<T>(HUGE_VAL);  // false with NaN
}

inline bool is_counter(const Tensor& t) {
  return t.dtype == DType::i64 && count(t, 0, t.rank) == 1;
}

// bernoulli draws 1 where a word is at most this; p > 0.
inline uint32_t last_of(double p) {
  return static_cast<uint32_t>(static_cast<int64_t>(ceil(p * 0x1p32)) - 1);
}

// nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* check_random(const Call& call) {
  if (call.n_tensors != 2 || !is_counter(call.tensors[1]))
    return "random: expected out and a counter of one int64";
  const Tensor& out = call.tensors[0];
  if (call.n_ints != 3 || call.ints[0] < kUniform || call.ints[0] > kBernoulli ||
      call.ints[2] < 0 || call.ints[2] > 0xFFFFFFFFll)
    return "random: expected [kind 0..2, seed, stream below 2^32]";
  if (call.n_floats < (call.ints[0] == kBernoulli ? 1 : 2))
    return "random: expected [low, high], [mean, stddev] or [p]";
  if (call.ints[0] != kBernoulli && !is_float_or_half(out.dtype))
    return "random: expected real numbers out for uniform and normal";
  if (call.ints[0] == kBernoulli && !(call.floats[0] >= 0 && call.floats[0] <= 1))
    return "random: expected a probability in [0, 1]";
  if (call.ints[0] == kUniform &&
      !(out.dtype == DType::f64 ? is_range<double>(call.floats) : is_range<float>(call.floats)))
    return "random: expected finite low <= high";
  return nullptr;
}

}  // namespace dl::DL_LEVEL
