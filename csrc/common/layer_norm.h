// What calls of layer_norm and layer_norm_grad must look like, for every backend. See kernels.def.
#pragma once

#include "common/tensors.h"

namespace dl::DL_LEVEL {

inline bool is_vector(const Tensor& t, int64_t n) { return t.rank == 1 && t.shape[0] == n; }

// x is tensor number `x`; rows (N, D), and vectors (N) or (D), which are no halves where rows are.
inline const char* check_normalized(const Call& call, int x) {
  const Tensor* t = call.tensors;
  if (t[x].rank != 2 || !is_float_or_half(t[x].dtype))
    return "layer_norm: expected x (N, D) of floats";
  for (int i = 0; i < call.n_tensors; ++i) {
    const DType wanted = t[i].rank == 2 ? t[x].dtype : compute_type(t[x].dtype);
    if (t[i].dtype != wanted || !is_dense(t[i], 0, t[i].rank))
      return "layer_norm: expected row-major arrays of one type";
  }
  if (call.n_ints != 1 || call.ints[0] < 0 || call.ints[0] > 1)
    return "layer_norm: expected [whether rows are centered]";
  if (!same_shape(t[0], 0, t[x], 0)) return "layer_norm: expected a result of the shape of x";
  return nullptr;
}

// nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* check_layer_norm(const Call& call) {
  const int n_results = call.n_tensors - 3;
  if (n_results != 1 && n_results != 3)
    return "layer_norm: expected y or y, mean, inv, and x, gamma, beta";
  if (const char* wrong = check_normalized(call, n_results)) return wrong;
  const Tensor *t = call.tensors, &x = t[n_results];
  bool ok = is_vector(t[n_results + 1], x.shape[1]) && is_vector(t[n_results + 2], x.shape[1]);
  for (int i = 1; i < n_results; ++i) ok = ok && is_vector(t[i], x.shape[0]);
  if (!ok) return "layer_norm: expected mean and inv (N), gamma and beta (D)";
  return call.n_floats == 1 ? nullptr : "layer_norm: expected [epsilon]";
}

inline const char* check_layer_norm_grad(const Call& call) {
  const int n_results = call.n_tensors - 5;
  if (n_results < 1 || n_results > 3)
    return "layer_norm_grad: expected dx, [dgamma, [dbeta]], dy, x, mean, inv, gamma";
  if (const char* wrong = check_normalized(call, n_results + 1)) return wrong;
  const Tensor *t = call.tensors, *in = t + n_results, &x = in[1];
  bool ok = same_shape(in[0], 0, x, 0) && is_vector(in[2], x.shape[0]) &&
            is_vector(in[3], x.shape[0]) && is_vector(in[4], x.shape[1]);
  for (int i = 1; i < n_results; ++i) ok = ok && is_vector(t[i], x.shape[1]);
  return ok ? nullptr : "layer_norm_grad: expected dy (N, D), mean, inv (N), vectors (D)";
}

}  // namespace dl::DL_LEVEL
