// What calls of pool and pool_grad must look like, for every backend. See kernels.def.
#pragma once

#include "common/tensors.h"

namespace dl::DL_LEVEL {

enum PoolKind { kMax, kAverage, kSum };

constexpr int64_t kMaxTaps = 1 << 20;

// Spatial axes are three; those that a call has not are 1 long.
struct PoolWindows {
  int kind;
  int64_t batch, channels, taps;
  int64_t in[3], out[3], size[3], stride[3], before[3];
};

// x and y: the larger and the smaller array, whichever is the result.
struct PoolOperands {
  const Tensor &x, &y;
  const Tensor* index;  // or null
};

inline PoolOperands pool_operands(const Call& call, bool gradient) {
  const Tensor* t = call.tensors;
  return {gradient ? t[0] : t[call.n_tensors - 1], gradient ? t[1] : t[0],
          call.n_tensors == 3 ? &t[gradient ? 2 : 1] : nullptr};
}

inline const char* set_windows(const Call& call, const Tensor& x, const Tensor& y,
                               const int (&place)[4][3], PoolWindows& p) {
  const int64_t* ints = call.ints;
  const int d = call.n_ints > 1 && ints[1] >= 1 && ints[1] <= 3 ? static_cast<int>(ints[1]) : 0;
  if (!d || call.n_ints != 2 + 3 * d || ints[0] < kMax || ints[0] > kSum)
    return "pool: expected [kind 0 to 2, axes 1 to 3, sizes, strides, padding before]";
  if (x.rank != d + 2 || y.rank != d + 2 || x.shape[0] != y.shape[0] ||
      x.shape[d + 1] != y.shape[d + 1])
    return "pool: expected (N, spatial..., C) of one batch size and number of channels";
  p.kind = static_cast<int>(ints[0]);
  p.batch = x.shape[0], p.channels = x.shape[d + 1], p.taps = 1;
  for (int a = 0; a < 3; ++a) p.in[a] = p.out[a] = p.size[a] = p.stride[a] = 1, p.before[a] = 0;
  for (int i = 0; i < d; ++i) {
    const int a = place[d][i];
    p.in[a] = x.shape[1 + i], p.out[a] = y.shape[1 + i];
    p.size[a] = ints[2 + i], p.stride[a] = ints[2 + d + i], p.before[a] = ints[2 + 2 * d + i];
    if (p.size[a] < 1 || p.size[a] > kMaxTaps || p.stride[a] < 1 || p.before[a] < 0 ||
        p.before[a] >= p.size[a])
      return "pool: expected sizes and strides of at least 1 and less padding than the size";
    if (p.out[a] < 1 || p.in[a] < 1 || (p.out[a] - 1) > (p.in[a] - 1 + p.before[a]) / p.stride[a])
      return "pool: expected windows that hold an element";
    p.taps *= p.size[a];
    if (p.taps > kMaxTaps) return "pool: expected a window of at most 2**20 elements";
  }
  return nullptr;
}

inline const char* check_pool_arrays(const Call& call, const PoolOperands& t,
                                     const PoolWindows& p) {
  const auto [x, y, index] = t;
  if (!is_float_or_half(x.dtype) || y.dtype != x.dtype)
    return "pool: expected arrays both float32 or both float64";
  const int last = x.rank - 1;
  for (int i = 0; i < call.n_tensors; ++i)
    if (p.channels > 1 && call.tensors[i].stride[last] != 1)
      return "pool: expected channels that are neighbours in memory";
  if (!index) return nullptr;
  if (p.kind != kMax || !same_shape(*index, 0, y, 0) ||
      (index->dtype != DType::i32 && (index->dtype != DType::u8 || p.taps > 256)))
    return "pool: expected an index i32, or u8 for at most 256 taps, of the shape of the results";
  return nullptr;
}

// nullptr or a sentence. Shapes and types only; pointers may be null. Axis i of d goes to
// place[d][i].
inline const char* read_pool(const Call& call, bool gradient, const int (&place)[4][3],
                             PoolWindows& p) {
  if (call.n_tensors < 2 || call.n_tensors > 3) return "pool: expected two or three tensors";
  const PoolOperands t = pool_operands(call, gradient);
  if (const char* wrong = set_windows(call, t.x, t.y, place, p)) return wrong;
  if (const char* wrong = check_pool_arrays(call, t, p)) return wrong;
  if (gradient && (t.index != nullptr) != (p.kind == kMax))
    return "pool_grad: expected an index for max alone";
  return nullptr;
}

}  // namespace dl::DL_LEVEL
