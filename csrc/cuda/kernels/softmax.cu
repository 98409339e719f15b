// Rows over the last axis, C classes, m = max(x), s = sum(exp(x - m)):
//
//   softmax                y = exp(x - m) / s       dx = y (dy - sum(dy y))
//   log_softmax            y = x - m - log(s)       dx = dy - exp(y) sum(dy)
//   softmax_cross_entropy  loss = sum(t) log(s) - sum(t (x - m))
//                          delta = dloss/dx = sum(t) exp(x - m) / s - t
//
// where t is labels (N, C), or one-hot of integer labels (N); a label out of range gives NaN.
//
// A row stays in registers (rows.cuh) between the maximum, the sum and the result: memory is read
// once and written once. -inf logits get probability 0; a row with NaN, inf or nothing but -inf is
// NaN, as the formula is.
#include "cuda/rows.cuh"

#include "common/softmax.h"

namespace dl::cuda {

namespace {

// What a launch does: whole rows, or what is known of chunks, or rows from what is known.
enum Phase { kWhole, kChunks, kFinish };

// Of a row or a chunk: m, s, sum(t), sum(t (x - base)). base is m, or 0 where m is -inf.
template <class T>
struct Sums {
  T top, exps, targets, products;
};

struct Softmax {
  RowCut cut;
  RowsOf y, x, dy, labels;  // dy: of the gradient, where x is y
  Phase phase;
  bool log_of, dense;
  char *loss, *sparse, *chunks;  // chunks: Sums of each
  DType sparse_dtype;
  int64_t loss_stride, sparse_stride;
};

template <class T>
__device__ inline T lowest() {
  return -static_cast<T>(HUGE_VAL);
}

template <class T>
__device__ inline T base_of(T top) {
  return top == lowest<T>() ? T(0) : top;
}

template <class T>
__device__ Sums<T> meet_chunks(const Softmax& p, int64_t row, int lane, T* meet) {
  const Sums<T>* chunks = reinterpret_cast<const Sums<T>*>(p.chunks) + row * p.cut.chunks;
  const int width = p.cut.width();
  Sums<T> sums{lowest<T>(), 0, 0, 0};
  for (int64_t k = lane; k < p.cut.chunks; k += width) sums.top = fmax(sums.top, chunks[k].top);
  sums.top = reduce_group(sums.top, width, meet, Largest());
  for (int64_t k = lane; k < p.cut.chunks; k += width) {
    const Sums<T> s = chunks[k];
    const bool nothing = s.top == lowest<T>() && sums.top > s.top;
    sums.exps += nothing ? T(0) : s.exps * exp(s.top - sums.top);
    sums.targets += s.targets;
    sums.products +=
        s.targets == T(0) ? s.products : s.products + s.targets * (base_of(s.top) - sums.top);
  }
  sums.exps = reduce_group(sums.exps, width, meet, Sum());
  sums.targets = reduce_group(sums.targets, width, meet, Sum());
  sums.products = reduce_group(sums.products, width, meet, Sum());
  return sums;
}

template <class T, int V, int P>
__device__ T top_of(const Pack<T, V> (&x)[P], const RowCut& cut, T* meet) {
  T top = lowest<T>();
#pragma unroll
  for (int j = 0; j < P; ++j)
#pragma unroll
    for (int v = 0; v < V; ++v) top = fmax(top, x[j].v[v]);
  return reduce_group(top, cut.width(), meet, Largest());
}

template <class T, int V, int P>
__global__ void __launch_bounds__(most_threads(V* P)) softmax(const __grid_constant__ Softmax p) {
  __shared__ T meet[kMostWarps];
  const RowPart<T, V, P> part(p.cut, group_of(p.cut));
  Pack<T, V> x[P];
  part.load(p.x, lowest<T>(), x);
  Sums<T> sums{0, 0, 0, 0};
  if (p.phase == kFinish) {
    sums = meet_chunks<T>(p, part.valid ? part.row : 0, part.lane, meet);
  } else {
    sums.top = top_of<T>(x, p.cut, meet);
  }
  const T base = p.phase == kChunks ? base_of(sums.top) : sums.top;
  T sum = 0;
#pragma unroll
  for (int j = 0; j < P; ++j)
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const T z = x[j].v[v] - base, e = exp(z);
      x[j].v[v] = p.log_of ? z : e;
      sum += e;
    }
  if (p.phase != kFinish) sums.exps = reduce_group(sum, p.cut.width(), meet, Sum());
  if (p.phase == kChunks) {
    if (part.valid && part.lane == 0)
      reinterpret_cast<Sums<T>*>(p.chunks)[part.row * p.cut.chunks + part.chunk] = sums;
    return;
  }
  const T shift = p.log_of ? log(sums.exps) : T(0), scale = p.log_of ? T(1) : 1 / sums.exps;
#pragma unroll
  for (int j = 0; j < P; ++j)
#pragma unroll
    for (int v = 0; v < V; ++v) x[j].v[v] = (x[j].v[v] - shift) * scale;
  part.store(p.y, x);
}

template <class T, int V, int P>
__global__ void __launch_bounds__(most_threads(V* P))
    softmax_grad(const __grid_constant__ Softmax p) {
  __shared__ T meet[kMostWarps];
  const RowPart<T, V, P> part(p.cut, group_of(p.cut));
  Pack<T, V> y[P], g[P];
  part.load(p.x, T(0), y);
  part.load(p.dy, T(0), g);
  T sum = 0;
  T* chunks = reinterpret_cast<T*>(p.chunks) + (part.valid ? part.row : 0) * p.cut.chunks;
  if (p.phase == kFinish) {
    for (int64_t k = part.lane; k < p.cut.chunks; k += p.cut.width()) sum += chunks[k];
  } else {
#pragma unroll
    for (int j = 0; j < P; ++j)
#pragma unroll
      for (int v = 0; v < V; ++v) sum += p.log_of ? g[j].v[v] : g[j].v[v] * y[j].v[v];
  }
  sum = reduce_group(sum, p.cut.width(), meet, Sum());
  if (p.phase == kChunks) {
    if (part.valid && part.lane == 0) chunks[part.chunk] = sum;
    return;
  }
#pragma unroll
  for (int j = 0; j < P; ++j)
#pragma unroll
    for (int v = 0; v < V; ++v)
      g[j].v[v] = p.log_of ? g[j].v[v] - exp(y[j].v[v]) * sum : y[j].v[v] * (g[j].v[v] - sum);
  part.store(p.y, g);
}

// Targets of a row; false if an integer label is out of range.
template <class T, int V, int P>
__device__ bool load_targets(const Softmax& p, const RowPart<T, V, P>& part, Pack<T, V> (&t)[P]) {
  if (p.dense) {
    part.load(p.labels, T(0), t);
    return true;
  }
  int64_t label = 0;
  if (part.valid)
    label = load_element<int64_t>(p.sparse, p.sparse_dtype, part.row * p.sparse_stride);
#pragma unroll
  for (int j = 0; j < P; ++j)
#pragma unroll
    for (int v = 0; v < V; ++v) t[j].v[v] = T(part.first + j * part.step + v == label);
  return label >= 0 && label < p.cut.size;
}

// exp(x - base) replaces x.
template <class T, int V, int P>
__device__ Sums<T> add_targets(Pack<T, V> (&x)[P], const Pack<T, V> (&t)[P], T base,
                               const RowPart<T, V, P>& part) {
  Sums<T> sums{base, 0, 0, 0};
#pragma unroll
  for (int j = 0; j < P; ++j) {
    const bool counts = part.first + j * part.step < part.end;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const T z = x[j].v[v] - base, w = counts ? t[j].v[v] : T(0);
      x[j].v[v] = exp(z);
      sums.exps += x[j].v[v];
      sums.targets += w;
      sums.products += w == T(0) ? T(0) : w * z;  // a masked class: 0 times -inf
    }
  }
  return sums;
}

template <class T, int V, int P>
__global__ void __launch_bounds__(most_threads(V* P))
    softmax_cross_entropy(const __grid_constant__ Softmax p) {
  __shared__ T meet[kMostWarps];
  const int width = p.cut.width();
  const RowPart<T, V, P> part(p.cut, group_of(p.cut));
  Pack<T, V> x[P], t[P];
  part.load(p.x, lowest<T>(), x);
  const bool known = load_targets<T, V, P>(p, part, t);
  Sums<T> whole{0, 0, 0, 0};
  if (p.phase == kFinish) {
    whole = meet_chunks<T>(p, part.valid ? part.row : 0, part.lane, meet);
  } else {
    whole.top = top_of<T>(x, p.cut, meet);
  }
  const Sums<T> sums =
      add_targets<T, V, P>(x, t, p.phase == kChunks ? base_of(whole.top) : whole.top, part);
  if (p.phase != kFinish) {
    whole.exps = reduce_group(sums.exps, width, meet, Sum());
    whole.targets = reduce_group(sums.targets, width, meet, Sum());
    whole.products = reduce_group(sums.products, width, meet, Sum());
  }
  if (p.phase == kChunks) {
    if (part.valid && part.lane == 0)
      reinterpret_cast<Sums<T>*>(p.chunks)[part.row * p.cut.chunks + part.chunk] = whole;
    return;
  }
  if (!known) whole.exps = static_cast<T>(NAN);
  const T scale = whole.targets / whole.exps;
#pragma unroll
  for (int j = 0; j < P; ++j)
#pragma unroll
    for (int v = 0; v < V; ++v) x[j].v[v] = x[j].v[v] * scale - t[j].v[v];
  part.store(p.y, x);
  if (part.valid && part.lane == 0 && part.chunk == 0)
    reinterpret_cast<T*>(p.loss)[part.row * p.loss_stride] =
        whole.targets * log(whole.exps) - whole.products;
}

template <class T>
RowCut cut_of(const Tensor& x) {
  return cut_rows<T>(count(x, 0, x.rank - 1), x.shape[x.rank - 1]);
}

RowCut cut_of(const Tensor& x) {
  return x.dtype == DType::f64 ? cut_of<double>(x) : cut_of<float>(x);
}

// An element costs `exps` exponentials, memory is passed over `passes` times.
void plan_rows(const Tensor& x, double exps, int passes, Work& work) {
  const RowCut cut = cut_of(x);
  const double elements = static_cast<double>(cut.rows) * static_cast<double>(cut.size);
  if (cut.chunks > 1)
    work.shared_bytes = cut.rows * cut.chunks * 4 * size_of(compute_type(x.dtype));
  work.flops = elements * (20 * exps + 5) + 20.0 * static_cast<double>(cut.rows);
  work.bytes = elements * passes * static_cast<double>(size_of(x.dtype));
}

// Starts the instance of a kernel for p's rows: once, or for the chunks and again for the rows.
#define DL_START_ROWS(kernel, T, p, stream)                                           \
  with_packs<T>(p.cut, [&]<int V, int P>() {                                          \
    const unsigned blocks = blocks_of(p.cut, p.cut.rows * p.cut.chunks);              \
    p.phase = p.cut.chunks > 1 ? kChunks : kWhole;                                    \
    cudaError_t error = launch(kernel<T, V, P>, blocks, p.cut.threads, 0, stream, p); \
    if (error || p.phase == kWhole) return error;                                     \
    p.phase = kFinish;                                                                \
    return launch(kernel<T, V, P>, blocks, p.cut.threads, 0, stream, p);              \
  })

template <class T>
cudaError_t start_softmax(const Call& call, cudaStream_t stream) {
  Softmax p{};
  p.cut = cut_of<T>(call.tensors[1]);
  p.y = rows_of<T>(call.tensors[0]), p.x = rows_of<T>(call.tensors[1]);
  p.log_of = call.ints[0] != 0, p.chunks = call.shared;
  return DL_START_ROWS(softmax, T, p, stream);
}

template <class T>
cudaError_t start_softmax_grad(const Call& call, cudaStream_t stream) {
  Softmax p{};
  p.cut = cut_of<T>(call.tensors[2]);
  p.y = rows_of<T>(call.tensors[0]), p.dy = rows_of<T>(call.tensors[1]);
  p.x = rows_of<T>(call.tensors[2]);
  p.log_of = call.ints[0] != 0, p.chunks = call.shared;
  return DL_START_ROWS(softmax_grad, T, p, stream);
}

template <class T>
cudaError_t start_cross_entropy(const Call& call, cudaStream_t stream) {
  const Tensor &loss = call.tensors[0], &labels = call.tensors[3];
  Softmax p{};
  p.cut = cut_of<T>(call.tensors[2]);
  p.y = rows_of<T>(call.tensors[1]), p.x = rows_of<T>(call.tensors[2]);
  p.dense = labels.rank == 2, p.chunks = call.shared;
  p.loss = loss.data, p.loss_stride = loss.stride[0];
  if (p.dense) {
    p.labels = rows_of<T>(labels);
  } else {
    p.sparse = labels.data, p.sparse_dtype = labels.dtype, p.sparse_stride = labels.stride[0];
  }
  return DL_START_ROWS(softmax_cross_entropy, T, p, stream);
}

}  // namespace

const char* plan_softmax(const Call& call, Work& work) {
  if (const char* wrong = check_softmax(call)) return wrong;
  plan_rows(call.tensors[1], 1, 2, work);
  return nullptr;
}

cudaError_t launch_softmax(const Call& call, cudaStream_t stream) {
  return call.tensors[0].dtype == DType::f64 ? start_softmax<double>(call, stream)
                                             : start_softmax<float>(call, stream);
}

const char* plan_softmax_grad(const Call& call, Work& work) {
  if (const char* wrong = check_softmax_grad(call)) return wrong;
  plan_rows(call.tensors[2], call.ints[0] ? 1 : 0, 3, work);
  return nullptr;
}

cudaError_t launch_softmax_grad(const Call& call, cudaStream_t stream) {
  return call.tensors[0].dtype == DType::f64 ? start_softmax_grad<double>(call, stream)
                                             : start_softmax_grad<float>(call, stream);
}

const char* plan_softmax_cross_entropy(const Call& call, Work& work) {
  if (const char* wrong = check_softmax_cross_entropy(call)) return wrong;
  work.outputs = 2;
  plan_rows(call.tensors[2], 1, call.tensors[3].rank == 2 ? 3 : 2, work);
  return nullptr;
}

cudaError_t launch_softmax_cross_entropy(const Call& call, cudaStream_t stream) {
  return call.tensors[0].dtype == DType::f64 ? start_cross_entropy<double>(call, stream)
                                             : start_cross_entropy<float>(call, stream);
}

}  // namespace dl::cuda
