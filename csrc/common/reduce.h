// What calls of reduce and arg_reduce must look like, and which loops a reduction is, for every
// backend. See kernels.def.
#pragma once

#include "common/expression.h"
#include "common/loops.h"

namespace dl::DL_LEVEL {

inline const char* check_reduced(const Call& call, const Expression& e) {
  const Tensor &out = call.tensors[0], &in = call.tensors[1];
  if (e.n_out != 1) return "reduce: expected an expression of one result";
  if (e.n_in < 1 || call.n_tensors != 1 + e.n_in)
    return "reduce: expected as many tensors as the expression has";
  if (out.rank != in.rank || in.rank > kMaxRank)
    return "reduce: expected tensors of one rank up to 8";
  for (int d = 0; d < in.rank; ++d) {
    if (out.shape[d] != in.shape[d] && out.shape[d] != 1)
      return "reduce: expected 1 on reduced axes of the output";
    if (out.shape[d] > 1 && out.stride[d] == 0)
      return "reduce: expected an output that is not broadcast";
  }
  for (int i = 2; i < call.n_tensors; ++i) {
    if (call.tensors[i].rank != in.rank) return "reduce: expected inputs of one rank";
    for (int d = 0; d < in.rank; ++d)
      if (call.tensors[i].shape[d] != in.shape[d]) return "reduce: expected inputs of one shape";
  }
  return nullptr;
}

// nullptr or a sentence. Shapes and types only; pointers may be null. e is what decode found.
inline const char* check_reduce(const Call& call, Expression& e) {
  if (call.n_ints < 1 || call.ints[0] < 0 || call.ints[0] > 3)
    return "reduce: expected kind 0 to 3";
  if (const char* wrong = decode(call.ints + 1, call.n_ints - 1, call.floats, call.n_floats, e))
    return wrong;
  return check_reduced(call, e);
}

// The same for arg_reduce; `axis` is the reduced one, -1 if its size is 1.
inline const char* check_arg_reduce(const Call& call, int& axis) {
  if (call.n_tensors != 2) return "arg_reduce: expected an output and an input";
  const Tensor &out = call.tensors[0], &in = call.tensors[1];
  if (call.n_ints < 1 || call.ints[0] < 0 || call.ints[0] > 1)
    return "arg_reduce: expected kind 0 or 1";
  if (out.dtype != DType::i32 && out.dtype != DType::i64)
    return "arg_reduce: expected an output of i32 or i64";
  if (out.rank != in.rank || in.rank > kMaxRank)
    return "arg_reduce: expected tensors of one rank up to 8";
  axis = -1;
  for (int d = 0; d < in.rank; ++d) {
    if (out.shape[d] == in.shape[d]) continue;
    if (out.shape[d] != 1 || axis >= 0)
      return "arg_reduce: expected 1 on the one reduced axis of the output";
    axis = d;
    if (in.shape[d] == 0) return "arg_reduce: expected at least one element to choose from";
  }
  return nullptr;
}

// The input whose layout decides the order of loops: the one with the fewest broadcast axes.
inline int find_leader(const Call& call) {
  int leader = 1, most = -1;
  for (int t = 1; t < call.n_tensors; ++t) {
    int n = 0;
    for (int d = 0; d < call.tensors[t].rank; ++d) n += call.tensors[t].stride[d] != 0;
    if (n > most) most = n, leader = t;
  }
  return leader;
}

// across: the innermost loop is kept, not reduced.
struct ReduceAxes {
  Loops loops;  // the first `kept` are kept, the others reduced
  int kept;
  bool across;
};

inline ReduceAxes reduce_axes(const Call& call) {
  Tensor tensors[1 + kMaxValues];
  tensors[0] = call.tensors[0];
  for (int i = 1; i < call.n_tensors; ++i) tensors[i] = call.tensors[i];
  bool reduced[kMaxRank];
  for (int d = 0; d < tensors[0].rank; ++d) {
    reduced[d] = tensors[0].shape[d] != tensors[1].shape[d];
    if (reduced[d]) tensors[0].stride[d] = 0;
  }
  const int leader = find_leader(call);
  ReduceAxes axes{};
  Loops& l = axes.loops;
  add_loops(l, tensors, call.n_tensors, leader, [&](int d) { return !reduced[d]; });
  const int kept = axes.kept = l.rank;
  add_loops(l, tensors, call.n_tensors, leader, [&](int d) { return reduced[d]; });
  axes.across = kept > 0 && (l.rank == kept || magnitude(l.stride[kept - 1][leader]) <
                                                   magnitude(l.stride[l.rank - 1][leader]));
  return axes;
}

}  // namespace dl::DL_LEVEL
