// Attention in blocks (Dao et al. 2022, https://arxiv.org/abs/2205.14135): what the forward pass
// and the gradient share. The formulas are in attention.cu.
//
// A tile of scores, one side queries and the other keys, is a product of the tile core; each thread
// turns its sums into weights where they are, and puts them into shared memory transposed: that is
// the left operand of the products over the tile's columns.
#pragma once

#include "cuda/tile.cuh"

#include "common/attention.h"
#include "common/philox.h"

namespace dl::cuda {

// A matrix (rows, columns) for each batch and head.
struct Heads {
  Matrix by_rows, by_cols;  // rows, or columns, lie across a tile; the other side is summed over
  int64_t batch, head;      // strides

  __device__ int64_t offset(int64_t b, int64_t n) const { return b * batch + n * head; }
  template <class E>
  __device__ E* at(int64_t b, int64_t n, int64_t row, int64_t col) const {
    E* data = reinterpret_cast<E*>(const_cast<char*>(by_rows.data));
    return data + offset(b, n) + row * by_rows.x_stride + col * by_rows.k_stride;
  }
};

inline Heads heads_of(const Tensor& t) {
  const int64_t vector = 16 / size_of(compute_type(t.dtype)), row = t.stride[1], col = t.stride[3];
  Heads h{};
  h.batch = t.stride[0], h.head = t.stride[2];
  const bool whole = col == 1 && t.shape[3] % vector == 0 && row % vector == 0 &&
                     h.batch % vector == 0 && h.head % vector == 0 && is_aligned(t.data);
  h.by_rows = {t.data, row, col, t.shape[1], col == 1, whole};
  h.by_cols = {t.data, col, row, t.shape[3], col != 1, whole};
  return h;
}

struct AttentionCall {
  Heads q, k, v, y, dy, dq, dk, dv;
  const char *bias, *mask;  // or null
  int64_t bias_stride[4], mask_stride[4];
  char *lse, *inner;  // lse or null; inner (B, N, T) = rowsum(dy y)
  int64_t lse_stride[3];
  int64_t batch, queries, keys, heads, groups, width, value_width;
  bool causal;
  double scale;
  const int64_t* counter;  // of the dropout, or null
  uint64_t seed;
  uint32_t stream, kept;
  int64_t runs;
};

inline AttentionCall attention_call(const Attention& a) {
  AttentionCall c{};
  c.q = heads_of(*a.q), c.k = heads_of(*a.k), c.v = heads_of(*a.v);
  c.bias = a.bias ? a.bias->data : nullptr, c.mask = a.mask ? a.mask->data : nullptr;
  for (int d = 0; d < 4; ++d) {
    c.bias_stride[d] = a.bias ? a.bias->stride[d] : 0;
    c.mask_stride[d] = a.mask ? a.mask->stride[d] : 0;
  }
  c.batch = a.batch, c.queries = a.queries, c.keys = a.keys, c.heads = a.heads;
  c.groups = a.groups, c.width = a.width, c.value_width = a.value_width;
  c.causal = a.causal, c.scale = a.scale;
  c.counter = a.counter ? a.counter->as<int64_t>() : nullptr;
  c.seed = a.seed, c.stream = a.stream, c.kept = a.kept(), c.runs = a.runs();
  return c;
}

inline void set_lse(const Tensor& t, AttentionCall& c) {
  c.lse = t.data;
  for (int d = 0; d < 3; ++d) c.lse_stride[d] = t.stride[d];
}

// Which batch, head, tile of rows and range of columns of the results a block has.
struct AttentionPlace {
  int64_t batch, head, row, col;
  __device__ AttentionPlace(int64_t heads, int64_t tiles, int rows, int64_t ranges, int cols) {
    int64_t id = blockIdx.x;
    col = id % ranges * cols, id /= ranges;
    row = id % tiles * rows, id /= tiles;
    head = id % heads, batch = id / heads;
  }
};

template <class C>
using Sums = typename C::Type[C::kHeight][C::kWidth];

// The weights of a tile, by columns; then what multiply() needs.
template <class C>
constexpr int kWeights = C::kCols * C::kRowStep;
template <class C>
constexpr size_t kAttentionBytes = kWeights<C> * sizeof(typename C::Type) + C::kSharedBytes;

// sum = x @ y^T of rows from x_row and y_row on, stored as E.
template <class C, class E>
__device__ inline void multiply_rows(const Heads& x, int64_t x_offset, int64_t x_row,
                                     const Heads& y, int64_t y_offset, int64_t y_row, int64_t width,
                                     typename C::Type* shared, Sums<C>& sum) {
  MatrixLoader<C, C::kRows, Form::any, E> a(x.by_rows, x_offset, x_row, 0);
  MatrixLoader<C, C::kCols, Form::any, E> b(y.by_rows, y_offset, y_row, 0);
  clear<C>(sum);
  multiply<C>(a, b, width, shared, sum);
}

// f(i, j, row, column) for each sum of this thread, counted in the tile.
template <class C, class F>
__device__ inline void for_sums(F f) {
#pragma unroll
  for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
    for (int j = 0; j < C::kWidth; ++j) f(i, j, C::row(i), C::col(j / C::kVector) + j % C::kVector);
  }
}

template <class C>
__device__ inline void put_weights(const Sums<C>& x, typename C::Type* weights) {
  for_sums<C>([&](int i, int j, int row, int col) { weights[col * C::kRowStep + row] = x[i][j]; });
  __syncthreads();
}

// sum += weights @ x, over the rows of x from `row` on, `valid` of them; columns of x from `col`
// on. All threads; afterwards the weights may be overwritten.
template <class C, class E>
__device__ inline void add_weighted(const typename C::Type* weights, const Heads& x, int64_t offset,
                                    int64_t row, int64_t valid, int64_t col,
                                    typename C::Type* shared, Sums<C>& sum) {
  MatrixLoader<C, C::kCols, Form::any, E> b(x.by_cols, offset, col, row);
#pragma unroll 1
  for (int k = 0; k < C::kCols; k += C::kDepth) {
    const int64_t left = valid - k;
    b.fetch(left <= 0 ? 0 : left < C::kDepth ? static_cast<int>(left) : C::kDepth);
    b.put(shared);
    __syncthreads();
    multiply_stage<C>(weights + k * C::kRowStep + C::row(0), shared + C::col(0), sum);
    __syncthreads();
  }
}

template <class T>
__device__ inline T minus_infinity() {
  return -static_cast<T>(HUGE_VAL);
}

// The score of query t and key s, whose product is `x`: -inf where nothing is seen.
template <class E, class T>
__device__ inline T score(const AttentionCall& c, int64_t b, int64_t n, int64_t t, int64_t s, T x) {
  if (t >= c.queries || s >= c.keys || (c.causal && s > t)) return minus_infinity<T>();
  const auto at = [&](const int64_t* stride) {
    return b * stride[0] + n * stride[1] + t * stride[2] + s * stride[3];
  };
  if (c.mask && !reinterpret_cast<const uint8_t*>(c.mask)[at(c.mask_stride)])
    return minus_infinity<T>();
  x *= static_cast<T>(c.scale);
  return c.bias ? x + static_cast<T>(reinterpret_cast<const E*>(c.bias)[at(c.bias_stride)]) : x;
}

// What dropout multiplies the weight of a query and a key by, as Attention says; 1 without it.
template <class T>
struct Dropout {
  const AttentionCall& c;
  uint32_t step;
  PhiloxWords words;

  __device__ explicit Dropout(const AttentionCall& c)
      : c(c), step(c.counter ? static_cast<uint32_t>(*c.counter) : 0), words{} {}
  __device__ void draw(int64_t b, int64_t n, int64_t t, int64_t run) {
    const int64_t block = ((b * c.heads + n) * c.queries + t) * c.runs + run;
    words = philox(static_cast<uint64_t>(block), c.stream, step, c.seed);
  }
  __device__ T factor(uint32_t half) const {
    return (half & 0xFFFF) < c.kept ? static_cast<T>(0x1p16 / c.kept) : T(0);
  }
  // `first`: the words are those of other keys.
  __device__ T factor(int64_t b, int64_t n, int64_t t, int64_t s, bool first) {
    if (!c.counter) return T(1);
    if (first) draw(b, n, t, s / 8);
    const uint32_t low = s & 2 ? words.word[1] : words.word[0];
    const uint32_t high = s & 2 ? words.word[3] : words.word[2];
    return factor((s & 4 ? high : low) >> (s & 1 ? 16 : 0));
  }
};

// Dropout of what put_weights has put. All threads.
template <class C>
__device__ inline void drop_weights(const AttentionCall& c, const AttentionPlace& p, int64_t s,
                                    typename C::Type* weights) {
  Dropout<typename C::Type> dropout(c);
#pragma unroll 1
  for (int i = threadIdx.x; i < C::kRows * C::kCols / 8; i += C::kThreads) {
    const int row = i % C::kRows, col = i / C::kRows * 8;
    dropout.draw(p.batch, p.head, p.row + row, (s + col) / 8);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      weights[(col + k) * C::kRowStep + row] *=
          dropout.factor(dropout.words.word[k / 2] >> k % 2 * 16);
  }
  __syncthreads();
}

template <class C, class E>
__device__ inline void store_heads(const Heads& to, int64_t b, int64_t n, int64_t row, int64_t col,
                                   const Sums<C>& x, typename C::Type scale) {
  for_sums<C>([&](int i, int j, int r, int k) {
    if (row + r < to.by_rows.extent && col + k < to.by_cols.extent)
      *to.at<E>(b, n, row + r, col + k) = E(x[i][j] * scale);
  });
}

}  // namespace dl::cuda
