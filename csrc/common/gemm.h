// What a gemm call must look like, for every backend. See kernels.def.
#pragma once

#include "common/expression.h"
#include "common/tensors.h"

namespace dl::DL_LEVEL {

inline const char* check_gemm_shapes(const Call& call, int n_out) {
  const Tensor &a = call.tensors[n_out], &b = call.tensors[n_out + 1], &out = call.tensors[0];
  const int r = out.rank;
  if (r < 2 || a.rank != r || b.rank != r)
    return "gemm: expected a, b and outputs of one rank of 2 or more";
  if (a.dtype != b.dtype || !is_float_or_half(a.dtype)) {
    return "gemm: expected a and b both float32 or both float64";
  }
  for (int d = 0; d < r - 2; ++d) {
    if (a.shape[d] != out.shape[d] || b.shape[d] != out.shape[d]) {
      return "gemm: expected the leading shape of a, b and outputs to be equal";
    }
  }
  if (a.shape[r - 2] != out.shape[r - 2] || b.shape[r - 1] != out.shape[r - 1] ||
      a.shape[r - 1] != b.shape[r - 2]) {
    return "gemm: expected a (.., M, K), b (.., K, N) and outputs (.., M, N)";
  }
  for (int t = 1; t < call.n_tensors; ++t) {
    if (t == n_out || t == n_out + 1) continue;
    const Tensor& x = call.tensors[t];
    if (x.rank != r) return "gemm: expected outputs and extra inputs of one rank";
    for (int d = 0; d < r; ++d) {
      if (x.shape[d] != out.shape[d]) return "gemm: expected outputs and extra inputs of one shape";
    }
  }
  return nullptr;
}

// nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* check_gemm(const Call& call) {
  Expression e{};
  int n_out = 1, n_extra = 0;
  if (call.n_ints > 0) {
    if (const char* wrong = decode(call.ints, call.n_ints, call.floats, call.n_floats, e))
      return wrong;
    if (e.n_in < 1) return "gemm: expected an expression whose input 0 is a @ b";
    n_out = e.n_out, n_extra = e.n_in - 1;
  }
  if (call.n_tensors != n_out + 2 + n_extra)
    return "gemm: expected outputs, a, b and the extra inputs of its expression";
  if (const char* wrong = check_gemm_shapes(call, n_out)) return wrong;
  const DType dtype = call.tensors[n_out].dtype;
  if (call.n_ints > 0 && e.compute != (dtype == DType::f64))
    return "gemm: expected an expression of a's dtype";
  if (call.n_ints == 0 && call.tensors[0].dtype != dtype)
    return "gemm: expected an output of a's dtype";
  return nullptr;
}

}  // namespace dl::DL_LEVEL
