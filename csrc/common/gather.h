// What calls of gather and scatter_add must look like, for every backend. See kernels.def.
#pragma once

#include "common/tensors.h"

namespace dl::DL_LEVEL {

inline bool is_index(const Tensor& t) {
  return t.rank == 1 && (t.dtype == DType::i32 || t.dtype == DType::i64);
}

// Each: nullptr or a sentence. Shapes and types only; pointers may be null.
inline const char* check_gather(const Call& call) {
  if (call.n_tensors != 3) return "gather: expected out, table and index";
  const Tensor &out = call.tensors[0], &table = call.tensors[1], &index = call.tensors[2];
  if (!is_index(index)) return "gather: expected an int32 or int64 index of rank 1";
  if (out.rank < 1 || !same_shape(out, 1, table, 1) || out.shape[0] != index.shape[0])
    return "gather: expected out (L, rest...), table (V, rest...) and index (L)";
  return nullptr;
}

inline const char* check_scatter_add(const Call& call) {
  if (call.n_tensors != 3 && call.n_tensors != 4)
    return "scatter_add: expected out, rows, index and perhaps base";
  const Tensor &out = call.tensors[0], &rows = call.tensors[1], &index = call.tensors[2];
  if (!is_index(index)) return "scatter_add: expected an int32 or int64 index of rank 1";
  if (out.dtype != rows.dtype || !is_float_or_half(out.dtype))
    return "scatter_add: expected out and rows both float32 or both float64";
  if (out.rank < 1 || !same_shape(out, 1, rows, 1) || rows.shape[0] != index.shape[0])
    return "scatter_add: expected out (V, rest...), rows (L, rest...) and index (L)";
  if (call.n_tensors == 4 &&
      (call.tensors[3].dtype != out.dtype || !same_shape(out, 0, call.tensors[3], 0)))
    return "scatter_add: expected a base of out's shape and dtype";
  return nullptr;
}

}  // namespace dl::DL_LEVEL
