// What a call of conv, conv_input_grad and conv_filter_grad must look like, for every backend. See
// kernels.def.
#pragma once

#include "common/conv.h"
#include "common/expression.h"
#include "common/tensors.h"

namespace dl::DL_LEVEL {

enum class Task { forward, input_grad, filter_grad };

constexpr int64_t kLargest = int64_t{1} << 31;  // of an attribute: products then fit 64 bits

struct ConvOperands {
  const Tensor &x, &w, &y;
};

inline ConvOperands conv_operands(const Call& call, Task task, int n_out) {
  const Tensor* t = call.tensors;
  if (task == Task::forward) return {t[n_out], t[n_out + 1], t[0]};
  if (task == Task::input_grad) return {t[0], t[n_out + 1], t[n_out]};
  return {t[n_out], t[0], t[n_out + 1]};
}

inline const char* check_conv_shapes(const Call& call, const ConvOperands& t, int n_out) {
  const int d = static_cast<int>(call.ints[0]), rank = d + 2;
  const int64_t groups = call.ints[1];
  if (t.x.rank != rank || t.w.rank != rank || t.y.rank != rank)
    return "conv: expected x, w and y of 2 more axes than there are spatial ones";
  const DType dtype = call.tensors[n_out].dtype;
  if (call.tensors[n_out + 1].dtype != dtype || !is_float_or_half(dtype))
    return "conv: expected operands both float32 or both float64";
  if (t.x.shape[0] != t.y.shape[0]) return "conv: expected x and y of one batch size";
  if (t.x.shape[rank - 1] != t.w.shape[d] * groups)
    return "conv: expected x (.., C) and w (.., C / groups, K)";
  if (t.y.shape[rank - 1] != t.w.shape[d + 1] || t.y.shape[rank - 1] % groups != 0)
    return "conv: expected w (.., C / groups, K) and y (.., K), K a multiple of groups";
  for (int i = 0; i < rank; ++i) {
    if (t.x.shape[i] >= kLargest || t.w.shape[i] >= kLargest || t.y.shape[i] >= kLargest)
      return "conv: expected axes shorter than 2^31";
  }
  for (int i = 1; i < call.n_tensors; ++i) {
    if (i == n_out || i == n_out + 1) continue;
    const Tensor& x = call.tensors[i];
    bool same = x.rank == rank;
    for (int d = 0; same && d < rank; ++d) same = x.shape[d] == call.tensors[0].shape[d];
    if (!same) return "conv: expected outputs and extra inputs of one shape";
  }
  return nullptr;
}

inline const char* check_conv_attributes(const Call& call) {
  const int64_t* v = call.ints;
  if (call.n_ints < 2 || v[0] < 1 || v[0] > 3 || call.n_ints < 2 + 3 * v[0])
    return "conv: expected attributes d, groups, strides, dilations, padding";
  if (v[1] < 1 || v[1] >= kLargest) return "conv: expected groups of 1 or more";
  for (int64_t i = 0; i < 2 * v[0]; ++i) {
    if (v[2 + i] < 1 || v[2 + i] >= kLargest)
      return "conv: expected strides and dilations from 1 to 2^31 - 1";
  }
  for (int64_t i = 0; i < v[0]; ++i) {
    const int64_t pad = v[2 + 2 * v[0] + i];
    if (pad < 0 || pad >= kLargest) return "conv: expected padding from 0 to 2^31 - 1";
  }
  return nullptr;
}

// The products of stride, dilation and size must not overflow.
inline const char* check_conv_reach(const Call& call, const ConvOperands& t) {
  const int64_t d = call.ints[0];
  for (int64_t i = 0; i < d; ++i) {
    const int64_t taps = t.w.shape[i], out = t.y.shape[i + 1];
    if (taps < 1) return "conv: expected a filter of 1 element or more along each axis";
    const int64_t span = (out > 0 ? out - 1 : 0) * call.ints[2 + i];
    if (span + (taps - 1) * call.ints[2 + d + i] >= int64_t{1} << 40)
      return "conv: expected a filter and its steps to reach less than 2^40 elements";
  }
  return nullptr;
}

// nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* check_conv(const Call& call, Task task) {
  if (const char* wrong = check_conv_attributes(call)) return wrong;
  const int used = 2 + 3 * static_cast<int>(call.ints[0]);
  Expression e{};
  int n_out = 1, n_extra = 0;
  const bool has_expression = call.n_ints > used;
  if (has_expression) {
    if (const char* wrong =
            decode(call.ints + used, call.n_ints - used, call.floats, call.n_floats, e))
      return wrong;
    if (e.n_in < 1) return "conv: expected an expression whose input 0 is the convolution";
    n_out = e.n_out, n_extra = e.n_in - 1;
  }
  if (call.n_tensors != n_out + 2 + n_extra)
    return "conv: expected outputs, two operands and the extra inputs of its expression";
  const ConvOperands t = conv_operands(call, task, n_out);
  if (const char* wrong = check_conv_shapes(call, t, n_out)) return wrong;
  const DType dtype = call.tensors[n_out].dtype;
  if (has_expression && e.compute != (dtype == DType::f64))
    return "conv: expected an expression of x's dtype";
  if (!has_expression && call.tensors[0].dtype != dtype)
    return "conv: expected an output of x's dtype";
  return check_conv_reach(call, t);
}

}  // namespace dl::DL_LEVEL
