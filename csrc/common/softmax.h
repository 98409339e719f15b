// What calls of softmax, softmax_grad and softmax_cross_entropy must look like, for every backend.
// See kernels.def.
#pragma once

#include "common/tensors.h"

namespace dl::DL_LEVEL {

inline bool is_alike(const Tensor& a, const Tensor& b) {
  return a.dtype == b.dtype && same_shape(a, 0, b, 0);
}

inline bool is_softmax_kind(const Call& call) {
  return call.n_ints == 1 && (call.ints[0] == 0 || call.ints[0] == 1);
}

// Each: nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* check_softmax(const Call& call) {
  if (call.n_tensors != 2 || !is_softmax_kind(call))
    return "softmax: expected y, x and [0 softmax or 1 log_softmax]";
  const Tensor& x = call.tensors[1];
  if (x.rank < 1 || !is_float_or_half(x.dtype) || !is_alike(call.tensors[0], x))
    return "softmax: expected y and x of one shape (..., C), both float32 or both float64";
  return nullptr;
}

inline const char* check_softmax_grad(const Call& call) {
  if (call.n_tensors != 3 || !is_softmax_kind(call))
    return "softmax_grad: expected dx, dy, y and [0 softmax or 1 log_softmax]";
  const Tensor& y = call.tensors[2];
  if (y.rank < 1 || !is_float_or_half(y.dtype) || !is_alike(call.tensors[0], y) ||
      !is_alike(call.tensors[1], y))
    return "softmax_grad: expected dx, dy and y of one shape (..., C), all float32 or all float64";
  return nullptr;
}

inline const char* check_softmax_cross_entropy(const Call& call) {
  if (call.n_tensors != 4) return "softmax_cross_entropy: expected loss, delta, logits and labels";
  const Tensor &loss = call.tensors[0], &x = call.tensors[2], &labels = call.tensors[3];
  if (x.rank != 2 || !is_float_or_half(x.dtype) || !is_alike(call.tensors[1], x))
    return "softmax_cross_entropy: expected delta and logits of one shape (N, C), both float32 or "
           "both float64";
  if (loss.rank != 1 || loss.shape[0] != x.shape[0] || loss.dtype != compute_type(x.dtype))
    return "softmax_cross_entropy: expected loss (N) of the dtype of logits, float32 for halves";
  const bool sparse = labels.rank == 1 && labels.shape[0] == x.shape[0] && !is_float(labels.dtype);
  const bool dense = is_float(labels.dtype) && same_shape(labels, 0, x, 0);
  if (!sparse && !dense)
    return "softmax_cross_entropy: expected labels (N) of integers or (N, C) of floats";
  return nullptr;
}

}  // namespace dl::DL_LEVEL
