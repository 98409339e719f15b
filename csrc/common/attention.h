// What calls of attention and attention_grad must look like, for every backend. See kernels.def.
#pragma once

#include "kernel.h"

namespace dl::DL_LEVEL {

// q (B, T, N, H), k (B, S, K, H), v (B, S, K, D); bias and mask (B, N, T, S) or null.
struct Attention {
  const Tensor *q, *k, *v, *bias, *mask;
  int64_t batch, queries, keys, heads, groups, width, value_width;
  bool causal;  // query t sees the keys 0..t
  double scale;

  int64_t shared() const { return heads / groups; }  // query heads for each head of keys
};

// q, k, v and what follows them in `call`, from tensor `first` on.
inline Attention attention_of(const Call& call, int first) {
  const Tensor* t = call.tensors + first;
  const Tensor* next = t + 3;
  const Tensor* bias = call.ints[1] ? next++ : nullptr;
  const Tensor* mask = call.ints[2] ? next++ : nullptr;
  return {t,          t + 1,      t + 2,      bias,       mask,       t->shape[0],
          t->shape[1], t[1].shape[1], t->shape[2], t[1].shape[2], t->shape[3], t[2].shape[3],
          call.ints[0] != 0, call.floats[0]};
}

// Whether `t` is (batch, rows, heads, columns) of `type`.
inline bool is_matrix(const Tensor& t, DType type, int64_t batch, int64_t rows, int64_t heads,
                      int64_t columns) {
  return t.dtype == type && t.rank == 4 && t.shape[0] == batch && t.shape[1] == rows &&
         t.shape[2] == heads && t.shape[3] == columns;
}

inline bool is_lse(const Attention& a, const Tensor& t) {
  return t.dtype == a.q->dtype && t.rank == 3 && t.shape[0] == a.batch && t.shape[1] == a.heads &&
         t.shape[2] == a.queries;
}

// Whether q, k, v, [bias], [mask] from tensor `first` on belong together.
inline bool are_attention(const Call& call, int first) {
  const Tensor &q = call.tensors[first], &k = call.tensors[first + 1], &v = call.tensors[first + 2];
  if (q.dtype != DType::f32 && q.dtype != DType::f64) return false;
  if (q.rank != 4 || k.rank != 4 || v.rank != 4) return false;
  const Attention a = attention_of(call, first);
  const auto is_scores = [&](const Tensor* t, DType type) {
    return !t || is_matrix(*t, type, a.batch, a.heads, a.queries, a.keys);
  };
  return a.groups > 0 && a.heads % a.groups == 0 && a.keys > 0 &&
         is_matrix(k, q.dtype, a.batch, a.keys, a.groups, a.width) &&
         is_matrix(v, q.dtype, a.batch, a.keys, a.groups, a.value_width) &&
         is_scores(a.bias, q.dtype) && is_scores(a.mask, DType::b8);
}

// nullptr or a sentence; `first` is where q is. Shapes and types only; pointers may be null.
inline const char* check_attention(const Call& call, int& first) {
  constexpr const char* message =
      "attention: expected y (B, T, N, D), [lse (B, N, T)], q (B, T, N, H), k (B, S, K, H), "
      "v (B, S, K, D), [bias (B, N, T, S)], [mask]; [causal, bias?, mask?]; [scale]";
  if (call.n_ints != 3 || call.n_floats != 1) return message;
  const int extra = static_cast<int>((call.ints[1] != 0) + (call.ints[2] != 0));
  first = call.n_tensors - 3 - extra;
  if (first != 1 && first != 2) return message;
  if (!are_attention(call, first)) return message;
  const Attention a = attention_of(call, first);
  const Tensor& y = call.tensors[0];
  if (!is_matrix(y, a.q->dtype, a.batch, a.queries, a.heads, a.value_width)) return message;
  if (first == 2 && !is_lse(a, call.tensors[1])) return message;
  return nullptr;
}

inline const char* check_attention_grad(const Call& call) {
  constexpr const char* message =
      "attention_grad: expected dq, dk, dv, dy, y, lse, q, k, v, [bias], [mask] of the shapes of "
      "attention; [causal, bias?, mask?]; [scale]";
  if (call.n_ints != 3 || call.n_floats != 1) return message;
  if (call.n_tensors != 9 + (call.ints[1] != 0) + (call.ints[2] != 0)) return message;
  if (!are_attention(call, 6)) return message;
  const Attention a = attention_of(call, 6);
  const DType type = a.q->dtype;
  const Tensor* t = call.tensors;
  const bool fit = is_matrix(t[0], type, a.batch, a.queries, a.heads, a.width) &&
                   is_matrix(t[1], type, a.batch, a.keys, a.groups, a.width) &&
                   is_matrix(t[2], type, a.batch, a.keys, a.groups, a.value_width) &&
                   is_matrix(t[3], type, a.batch, a.queries, a.heads, a.value_width) &&
                   is_matrix(t[4], type, a.batch, a.queries, a.heads, a.value_width) &&
                   is_lse(a, t[5]);
  if (!fit) return message;
  return nullptr;
}

}  // namespace dl::DL_LEVEL
