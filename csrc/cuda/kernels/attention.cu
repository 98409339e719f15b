// attention        y = softmax(scale q k^T + bias, where mask and causal allow) v, for each head
//                  lse = log sum exp of a row of the scores, for the gradient
//
//   q (B, T, N, H)  k (B, S, K, H)  v (B, S, K, D)  y (B, T, N, D)  lse (B, N, T)
//   bias, mask (B, N, T, S), of any strides; query heads [i N/K, (i+1) N/K) share key head i
//   halves are computed with in float32; lse is float32 then
//   with dropout weights of the softmax become 0 or are divided by the probability to be kept
//
// A block has a tile of queries of one head and goes over the keys once. top, the largest score so
// far, and total, the sum of exp(score - top), follow along; when top grows, total and the sum in y
// shrink by exp(old - top). Values wider than kRanges tiles are done in several ranges of columns.
// A query that sees no key gets y = 0 and lse = inf.
#include "cuda/attention.cuh"

namespace dl::cuda {

namespace {

constexpr int kRanges = 2;  // tiles of columns of y in registers

// x[i] = f over the row's threads, in a fixed order.
template <class C, class F>
__device__ void reduce_rows(typename C::Type (&x)[C::kHeight], typename C::Type* shared, F f) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % C::kColWarps;
#pragma unroll
  for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
    for (int mask = 2; mask <= 8; mask *= 2)  // the bits of a lane that choose columns
      x[i] = f(x[i], __shfl_xor_sync(kAllLanes, x[i], mask));
  }
  if (C::kColWarps == 1) return;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < C::kHeight; ++i) {
    if ((lane & 14) == 0) shared[warp * C::kRows + C::row(i)] = x[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < C::kHeight; ++i) {
    x[i] = shared[C::row(i)];
#pragma unroll
    for (int w = 1; w < C::kColWarps; ++w) x[i] = f(x[i], shared[w * C::kRows + C::row(i)]);
  }
  __syncthreads();
}

template <class C>
struct Softmax {
  using T = typename C::Type;
  T top[C::kHeight], total[C::kHeight], shrink[C::kHeight];

  __device__ Softmax() {
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) top[i] = minus_infinity<T>(), total[i] = 0;
  }

  // Scores become exp(score - top).
  __device__ void weigh(Sums<C>& x, T* shared) {
    T most[C::kHeight], sum[C::kHeight];
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
      most[i] = top[i];
#pragma unroll
      for (int j = 0; j < C::kWidth; ++j) most[i] = x[i][j] > most[i] ? x[i][j] : most[i];
    }
    reduce_rows<C>(most, shared, [](T a, T b) { return b > a ? b : a; });
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
      const T shift = most[i] == minus_infinity<T>() ? T(0) : most[i];
      shrink[i] = exp(top[i] - shift);
      top[i] = most[i];
      sum[i] = 0;
#pragma unroll
      for (int j = 0; j < C::kWidth; ++j) sum[i] += x[i][j] = exp(x[i][j] - shift);
    }
    reduce_rows<C>(sum, shared, [](T a, T b) { return a + b; });
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) total[i] = total[i] * shrink[i] + sum[i];
  }

  __device__ void shrink_sums(Sums<C>& y) const {
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
      for (int j = 0; j < C::kWidth; ++j) y[i][j] *= shrink[i];
    }
  }

  __device__ void divide(Sums<C>& y) const {
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
      const T by = total[i] == T(0) ? T(0) : T(1) / total[i];
#pragma unroll
      for (int j = 0; j < C::kWidth; ++j) y[i][j] *= by;
    }
  }

  __device__ void store_lse(const AttentionCall& c, const AttentionPlace& p) const {
    if (!c.lse || p.col > 0 || C::col(0) > 0) return;
    T* lse = reinterpret_cast<T*>(c.lse) + p.batch * c.lse_stride[0] + p.head * c.lse_stride[1];
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
      const int64_t t = p.row + C::row(i);
      if (t < c.queries)
        lse[t * c.lse_stride[2]] = total[i] == T(0) ? -minus_infinity<T>() : log(total[i]) + top[i];
    }
  }
};

template <class C, class E>
__global__ void __launch_bounds__(C::kThreads) attention(const __grid_constant__ AttentionCall c) {
  using T = typename C::Type;
  DL_SHARED(T, weights);
  T* shared = weights + kWeights<C>;
  const int64_t tiles = ceil_div(c.queries, C::kRows);
  const int64_t ranges = max(ceil_div(c.value_width, kRanges * C::kCols), int64_t{1});
  const AttentionPlace p(c.heads, tiles, C::kRows, ranges, kRanges * C::kCols);
  const int64_t group = p.head / (c.heads / c.groups);
  const int64_t q = c.q.offset(p.batch, p.head), k = c.k.offset(p.batch, group);
  const int64_t v = c.v.offset(p.batch, group);
  const int64_t keys = c.causal ? min(c.keys, p.row + C::kRows) : c.keys;
  Softmax<C> softmax;
  Sums<C> x, y[kRanges];
#pragma unroll
  for (int n = 0; n < kRanges; ++n) clear<C>(y[n]);
  for (int64_t s = 0; s < keys; s += C::kCols) {
    multiply_rows<C, E>(c.q, q, p.row, c.k, k, s, c.width, shared, x);
    for_sums<C>([&](int i, int j, int row, int col) {
      x[i][j] = score<E>(c, p.batch, p.head, p.row + row, s + col, x[i][j]);
    });
    softmax.weigh(x, shared);
    put_weights<C>(x, weights);
    if (c.counter) drop_weights<C>(c, p, s, weights);
#pragma unroll
    for (int n = 0; n < kRanges; ++n) {
      const int64_t col = p.col + n * C::kCols;
      if (col >= c.value_width) continue;
      softmax.shrink_sums(y[n]);
      add_weighted<C, E>(weights, c.v, v, s, c.keys - s, col, shared, y[n]);
    }
  }
#pragma unroll
  for (int n = 0; n < kRanges; ++n) {
    softmax.divide(y[n]);
    store_heads<C, E>(c.y, p.batch, p.head, p.row, p.col + n * C::kCols, y[n], T(1));
  }
  softmax.store_lse(c, p);
}

template <class C, class E>
cudaError_t start(const AttentionCall& c, cudaStream_t stream) {
  const int64_t ranges = max(ceil_div(c.value_width, kRanges * C::kCols), int64_t{1});
  const int64_t blocks = ceil_div(c.queries, C::kRows) * ranges * c.heads * c.batch;
  if (blocks >= int64_t{1} << 31) return cudaErrorInvalidValue;
  if (const cudaError_t error = allow_shared(attention<C, E>, kAttentionBytes<C>)) return error;
  return launch(attention<C, E>, static_cast<unsigned>(blocks), C::kThreads, kAttentionBytes<C>,
                stream, c);
}

}  // namespace

const char* plan_attention(const Call& call, Work& work) {
  int first;
  if (const char* wrong = check_attention(call, first)) return wrong;
  const Attention a = attention_of(call, first);
  work.outputs = first;
  const double heads = static_cast<double>(a.batch) * static_cast<double>(a.heads);
  const double scores = heads * static_cast<double>(a.queries) * static_cast<double>(a.keys);
  const double width = static_cast<double>(a.width + a.value_width);
  work.flops = scores / (a.causal ? 2 : 1) * (2 * width + 20);
  work.bytes = static_cast<double>(size_of(a.q->dtype)) * heads *
               static_cast<double>(a.queries + a.keys) * width;
  return nullptr;
}

cudaError_t launch_attention(const Call& call, cudaStream_t stream) {
  constexpr int64_t kShort = 32;
  int first;
  if (check_attention(call, first)) return cudaErrorInvalidValue;
  const Attention a = attention_of(call, first);
  AttentionCall c = attention_call(a);
  c.y = heads_of(call.tensors[0]);
  if (first == 2) set_lse(call.tensors[1], c);
  if (a.q->dtype == DType::f64) return start<SmallTile<double>, double>(c, stream);
  return with_storage<float>(a.q->dtype, [&](auto kind) {
    using E = decltype(kind);
    return a.queries <= kShort ? start<SmallTile<float>, E>(c, stream)
                               : start<MiddleTile<float>, E>(c, stream);
  });
}

}  // namespace dl::cuda
