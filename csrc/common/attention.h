// What calls of attention and attention_grad must look like, for every backend. See kernels.def.
#pragma once

#include "common/random.h"

namespace dl::DL_LEVEL {

// q (B, T, N, H), k (B, S, K, H), v (B, S, K, D); bias and mask (B, N, T, S) or null.
//
// With a counter, dropout: the weight (b, n, t, s) is multiplied by 2^16 / kept() where half word
// s % 8, low ones first, of the Philox block ((b N + n) T + t) runs() + s / 8 is below kept(), else
// by 0. The block is that of `seed`, `stream` and the counter.
struct Attention {
  const Tensor *q, *k, *v, *bias, *mask, *counter;
  int64_t batch, queries, keys, heads, groups, width, value_width;
  bool causal;  // query t sees the keys 0..t
  double scale, keep;
  uint64_t seed;
  uint32_t stream;

  int64_t shared() const { return heads / groups; }  // query heads for each head of keys
  int64_t runs() const { return (keys + 7) / 8; }    // Philox blocks for a row of weights
  uint32_t kept() const { return static_cast<uint32_t>(keep * 0x1p16 + 0.5); }
};

// Tensors of the inputs in `call`.
inline int attention_inputs(const Call& call) {
  return 3 + (call.ints[1] != 0) + (call.ints[2] != 0) + (call.ints[3] != 0);
}

// q, k, v and what follows them in `call`, from tensor `first` on.
inline Attention attention_of(const Call& call, int first) {
  const Tensor* t = call.tensors + first;
  const Tensor* next = t + 3;
  const Tensor* bias = call.ints[1] ? next++ : nullptr;
  const Tensor* mask = call.ints[2] ? next++ : nullptr;
  const Tensor* counter = call.ints[3] ? next : nullptr;
  return {t,
          t + 1,
          t + 2,
          bias,
          mask,
          counter,
          t->shape[0],
          t->shape[1],
          t[1].shape[1],
          t->shape[2],
          t[1].shape[2],
          t->shape[3],
          t[2].shape[3],
          call.ints[0] != 0,
          call.floats[0],
          call.floats[1],
          static_cast<uint64_t>(call.ints[4]),
          static_cast<uint32_t>(call.ints[5])};
}

// Whether `t` is (batch, rows, heads, columns) of `type`.
inline bool is_matrix(const Tensor& t, DType type, int64_t batch, int64_t rows, int64_t heads,
                      int64_t columns) {
  return t.dtype == type && t.rank == 4 && t.shape[0] == batch && t.shape[1] == rows &&
         t.shape[2] == heads && t.shape[3] == columns;
}

inline bool is_lse(const Attention& a, const Tensor& t) {
  return t.dtype == compute_type(a.q->dtype) && t.rank == 3 && t.shape[0] == a.batch &&
         t.shape[1] == a.heads && t.shape[2] == a.queries;
}

// Whether q, k, v, [bias], [mask], [counter] from tensor `first` on belong together.
inline bool are_attention(const Call& call, int first) {
  const Tensor &q = call.tensors[first], &k = call.tensors[first + 1], &v = call.tensors[first + 2];
  if (!is_float_or_half(q.dtype)) return false;
  if (q.rank != 4 || k.rank != 4 || v.rank != 4) return false;
  const Attention a = attention_of(call, first);
  const auto is_scores = [&](const Tensor* t, DType type) {
    return !t || is_matrix(*t, type, a.batch, a.heads, a.queries, a.keys);
  };
  return a.groups > 0 && a.heads % a.groups == 0 && a.keys > 0 &&
         is_matrix(k, q.dtype, a.batch, a.keys, a.groups, a.width) &&
         is_matrix(v, q.dtype, a.batch, a.keys, a.groups, a.value_width) &&
         is_scores(a.bias, q.dtype) && is_scores(a.mask, DType::b8) &&
         (!a.counter || (is_counter(*a.counter) && a.kept() > 0 && a.keep <= 1));
}

// nullptr or a sentence; `first` is where q is. Shapes and types only; pointers may be null.
inline const char* check_attention(const Call& call, int& first) {
  constexpr const char* message =
      "attention: expected y (B, T, N, D), [lse (B, N, T)], q (B, T, N, H), k (B, S, K, H), "
      "v (B, S, K, D), [bias (B, N, T, S)], [mask], [counter]; [causal, bias?, mask?, counter?, "
      "seed, stream]; [scale, keep]";
  if (call.n_ints != 6 || call.n_floats != 2) return message;
  first = call.n_tensors - attention_inputs(call);
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
      "attention_grad: expected dq, dk, dv, dy, y, lse and the inputs of attention of its shapes; "
      "its attributes";
  if (call.n_ints != 6 || call.n_floats != 2) return message;
  if (call.n_tensors != 6 + attention_inputs(call)) return message;
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
