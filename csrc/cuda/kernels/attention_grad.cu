// The gradient of attention, with p = exp(scores - lse), recomputed tile by tile:
//
//   dv = p^T dy     ds = p (dy v^T - rowsum(dy y))     dq = scale ds k     dk = scale ds^T q
//
// With dropout, f = 0 or 1 / keep: dv = (f p)^T dy and ds = p (f dy v^T - rowsum(dy y)). Shapes are
// those of attention.cu; nothing flows to lse, bias and mask. One kernel goes over the keys for a
// tile of queries and makes dq; another goes over the queries, of all heads that share them, for a
// tile of keys and makes dk and dv: so every sum has one owner and a fixed order.
#include "cuda/attention.cuh"

namespace dl::cuda {

namespace {

template <class T>
constexpr int kRanges = 16 / sizeof(T);  // tiles of columns of a result in registers
constexpr int kThreads = 256;

template <class E>
__global__ void __launch_bounds__(kThreads)
    inner_products(const __grid_constant__ AttentionCall c) {
  using T = Computed<E>;
  const int64_t rows = c.batch * c.heads * c.queries;
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= rows) return;
  const int64_t t = row % c.queries, n = row / c.queries % c.heads, b = row / c.queries / c.heads;
  T sum = 0;
  for (int64_t d = threadIdx.x % kWarp; d < c.value_width; d += kWarp)
    sum += static_cast<T>(*c.dy.at<E>(b, n, t, d)) * static_cast<T>(*c.y.at<E>(b, n, t, d));
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);
  if (threadIdx.x % kWarp == 0) reinterpret_cast<T*>(c.inner)[row] = sum;
}

// Of the query t: what its weights and their gradients need. Beyond the end nothing is seen.
template <class T>
struct Query {
  T lse, inner;
  __device__ Query(const AttentionCall& c, int64_t b, int64_t n, int64_t t) : lse(0), inner(0) {
    if (t >= c.queries) return;
    lse = reinterpret_cast<const T*>(
        c.lse)[b * c.lse_stride[0] + n * c.lse_stride[1] + t * c.lse_stride[2]];
    inner = reinterpret_cast<const T*>(c.inner)[(b * c.heads + n) * c.queries + t];
  }
};

// From products q k and dy v, and the factor of the dropout: weights p, and ds.
template <class E, class T>
__device__ inline void differentiate(const AttentionCall& c, int64_t b, int64_t n, int64_t t,
                                     int64_t s, T factor, T& p, T& ds) {
  const T x = score<E>(c, b, n, t, s, p);
  const Query<T> query(c, b, n, t);
  const bool hidden = x == minus_infinity<T>();
  p = hidden ? T(0) : exp(x - query.lse);
  ds = hidden ? T(0) : p * (factor * ds - query.inner);
  p *= factor;
}

template <class C, class E>
__global__ void __launch_bounds__(C::kThreads)
    query_gradient(const __grid_constant__ AttentionCall c) {
  using T = typename C::Type;
  DL_SHARED(T, weights);
  T* shared = weights + kWeights<C>;
  const int64_t tiles = ceil_div(c.queries, C::kRows);
  const int64_t ranges = max(ceil_div(c.width, kRanges<T> * C::kCols), int64_t{1});
  const AttentionPlace p(c.heads, tiles, C::kRows, ranges, kRanges<T> * C::kCols);
  const int64_t group = p.head / (c.heads / c.groups);
  const int64_t q = c.q.offset(p.batch, p.head), k = c.k.offset(p.batch, group);
  const int64_t dy = c.dy.offset(p.batch, p.head), v = c.v.offset(p.batch, group);
  const int64_t keys = c.causal ? min(c.keys, p.row + C::kRows) : c.keys;
  Dropout<T> dropout(c);
  Sums<C> x, ds, dq[kRanges<T>];
#pragma unroll
  for (int n = 0; n < kRanges<T>; ++n) clear<C>(dq[n]);
  for (int64_t s = 0; s < keys; s += C::kCols) {
    multiply_rows<C, E>(c.q, q, p.row, c.k, k, s, c.width, shared, x);
    multiply_rows<C, E>(c.dy, dy, p.row, c.v, v, s, c.value_width, shared, ds);
    for_sums<C>([&](int i, int j, int row, int col) {
      const int64_t query = p.row + row, key = s + col;
      const bool first = j % C::kVector == 0;
      const T factor = dropout.factor(p.batch, p.head, query, key, first);
      differentiate<E>(c, p.batch, p.head, query, key, factor, x[i][j], ds[i][j]);
    });
    put_weights<C>(ds, weights);
#pragma unroll
    for (int n = 0; n < kRanges<T>; ++n) {
      const int64_t col = p.col + n * C::kCols;
      if (col < c.width) add_weighted<C, E>(weights, c.k, k, s, c.keys - s, col, shared, dq[n]);
    }
  }
#pragma unroll
  for (int n = 0; n < kRanges<T>; ++n)
    store_heads<C, E>(c.dq, p.batch, p.head, p.row, p.col + n * C::kCols, dq[n],
                      static_cast<T>(c.scale));
}

template <class C, class E>
__global__ void __launch_bounds__(C::kThreads)
    key_gradient(const __grid_constant__ AttentionCall c) {
  using T = typename C::Type;
  DL_SHARED(T, weights);
  T* shared = weights + kWeights<C>;
  const int64_t tiles = ceil_div(c.keys, C::kRows), widest = max(c.width, c.value_width);
  const int64_t ranges = max(ceil_div(widest, kRanges<T> * C::kCols), int64_t{1});
  const AttentionPlace p(c.groups, tiles, C::kRows, ranges, kRanges<T> * C::kCols);
  const int64_t each = c.heads / c.groups;
  const int64_t k = c.k.offset(p.batch, p.head), v = c.v.offset(p.batch, p.head);
  Dropout<T> dropout(c);
  Sums<C> x, ds, dk[kRanges<T>], dv[kRanges<T>];
#pragma unroll
  for (int n = 0; n < kRanges<T>; ++n) clear<C>(dk[n]), clear<C>(dv[n]);
  for (int64_t head = p.head * each; head < (p.head + 1) * each; ++head) {
    const int64_t q = c.q.offset(p.batch, head), dy = c.dy.offset(p.batch, head);
    for (int64_t t = c.causal ? p.row / C::kCols * C::kCols : 0; t < c.queries; t += C::kCols) {
      multiply_rows<C, E>(c.k, k, p.row, c.q, q, t, c.width, shared, x);
      multiply_rows<C, E>(c.v, v, p.row, c.dy, dy, t, c.value_width, shared, ds);
      for_sums<C>([&](int i, int j, int row, int col) {
        const int64_t query = t + col, key = p.row + row;
        const T factor = dropout.factor(p.batch, head, query, key, true);
        differentiate<E>(c, p.batch, head, query, key, factor, x[i][j], ds[i][j]);
      });
      put_weights<C>(x, weights);
#pragma unroll
      for (int n = 0; n < kRanges<T>; ++n) {
        const int64_t col = p.col + n * C::kCols;
        if (col < c.value_width)
          add_weighted<C, E>(weights, c.dy, dy, t, c.queries - t, col, shared, dv[n]);
      }
      put_weights<C>(ds, weights);
#pragma unroll
      for (int n = 0; n < kRanges<T>; ++n) {
        const int64_t col = p.col + n * C::kCols;
        if (col < c.width)
          add_weighted<C, E>(weights, c.q, q, t, c.queries - t, col, shared, dk[n]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kRanges<T>; ++n) {
    const int64_t col = p.col + n * C::kCols;
    store_heads<C, E>(c.dk, p.batch, p.head, p.row, col, dk[n], static_cast<T>(c.scale));
    store_heads<C, E>(c.dv, p.batch, p.head, p.row, col, dv[n], T(1));
  }
}

template <class C>
cudaError_t start(void (*kernel)(AttentionCall), const AttentionCall& c, int64_t rows,
                  int64_t heads, int64_t widest, cudaStream_t stream) {
  using T = typename C::Type;
  const int64_t ranges = max(ceil_div(widest, kRanges<T> * C::kCols), int64_t{1});
  const int64_t blocks = ceil_div(rows, C::kRows) * ranges * heads * c.batch;
  if (blocks >= int64_t{1} << 31) return cudaErrorInvalidValue;
  if (const cudaError_t error = allow_shared(kernel, kAttentionBytes<C>)) return error;
  return launch(kernel, static_cast<unsigned>(blocks), C::kThreads, kAttentionBytes<C>, stream, c);
}

template <class E>
cudaError_t run(const AttentionCall& c, cudaStream_t stream) {
  using C = SmallTile<Computed<E>>;
  const int64_t rows = c.batch * c.heads * c.queries;
  const unsigned blocks = static_cast<unsigned>(ceil_div(rows, kThreads / kWarp));
  if (const cudaError_t error = launch(inner_products<E>, blocks, kThreads, 0, stream, c))
    return error;
  if (const cudaError_t error =
          start<C>(query_gradient<C, E>, c, c.queries, c.heads, c.width, stream))
    return error;
  return start<C>(key_gradient<C, E>, c, c.keys, c.groups, max(c.width, c.value_width), stream);
}

}  // namespace

const char* plan_attention_grad(const Call& call, Work& work) {
  if (const char* wrong = check_attention_grad(call)) return wrong;
  const Attention a = attention_of(call, 6);
  const int64_t size = size_of(a.q->dtype);
  work.outputs = 3;
  work.shared_bytes = a.batch * a.heads * a.queries * size_of(compute_type(a.q->dtype));
  const double heads = static_cast<double>(a.batch) * static_cast<double>(a.heads);
  const double scores = heads * static_cast<double>(a.queries) * static_cast<double>(a.keys);
  const double width = static_cast<double>(a.width);
  const double value_width = static_cast<double>(a.value_width);
  work.flops = scores / (a.causal ? 2 : 1) * (6 * width + 4 * value_width + 25);
  work.bytes = 2 * static_cast<double>(size) * heads * static_cast<double>(a.queries + a.keys) *
               (width + value_width);
  return nullptr;
}

cudaError_t launch_attention_grad(const Call& call, cudaStream_t stream) {
  if (check_attention_grad(call)) return cudaErrorInvalidValue;
  const Tensor* t = call.tensors;
  const Attention a = attention_of(call, 6);
  AttentionCall c = attention_call(a);
  c.dq = heads_of(t[0]), c.dk = heads_of(t[1]), c.dv = heads_of(t[2]);
  c.dy = heads_of(t[3]), c.y = heads_of(t[4]);
  set_lse(t[5], c);
  c.inner = call.shared;
  if (a.q->dtype == DType::f64) return run<double>(c, stream);
  return with_storage<float>(a.q->dtype, [&](auto kind) { return run<decltype(kind)>(c, stream); });
}

}  // namespace dl::cuda
