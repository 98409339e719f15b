// Normalization of rows x (N, D), which stay in registers (rows.cuh) from load to result:
//
//   layer_norm       y = h gamma + beta,  h = (x - mean) inv,  inv = 1 / sqrt(variance + epsilon)
//   layer_norm_grad  dx = inv (g - mean(g) - h mean(g h)),  g = dy gamma
//                    dgamma = sum over rows of dy h,  dbeta = sum over rows of dy
//
// where mean = 0 and variance = mean(x^2), and dx lacks mean(g), if rows are not centered (RMS).
// dgamma and dbeta: a group of threads keeps the sums of its columns over several rows, the groups'
// sums meet in a second launch, in order.
#include "cuda/rows.cuh"

#include "common/layer_norm.h"

namespace dl::cuda {

namespace {

enum Phase { kWhole, kChunks, kFinish };

constexpr int64_t kMostParts = 1024;  // of the gradient's rows: each has a row of partial sums
constexpr int kMeet = 32;             // columns, and parts at once, of a block of the last launch

template <class T>
struct Two {
  T a, b;
};

struct AddTwo {
  template <class T>
  __device__ Two<T> operator()(const Two<T>& x, const Two<T>& y) const {
    return {x.a + y.a, x.b + y.b};
  }
};

struct Norm {
  RowCut cut;
  RowsOf y, x, dy;  // y: or dx
  Phase phase;
  bool centered, packed;  // packed: gamma and beta
  double epsilon;
  const char *gamma, *beta;
  char *mean, *inv;
  char *chunks, *partial;  // Two of each chunk; (parts, 2, D) sums over rows
  int64_t parts;
};

template <class T, int V>
__device__ inline Pack<T, V> vector_at(const char* data, int64_t c, bool packed) {
  const T* from = reinterpret_cast<const T*>(data) + c;
  if (V > 1 && packed) return *reinterpret_cast<const Pack<T, V>*>(from);
  Pack<T, V> x;
#pragma unroll
  for (int v = 0; v < V; ++v) x.v[v] = from[v];
  return x;
}

// Mean and sum of squared distances from it, of n elements in the registers of a group. The second
// pass also finds what rounding left in the mean.
template <class T, int V, int P>
__device__ Two<T> moments(const Pack<T, V> (&x)[P], const RowPart<T, V, P>& part, T n,
                          bool centered, int width, Two<T>* meet) {
  T mean = 0;
  if (centered) {
    Two<T> sum{0, 0};
    part.each([&](int j, int64_t) {
#pragma unroll
      for (int v = 0; v < V; ++v) sum.a += x[j].v[v];
    });
    mean = reduce_group(sum, width, meet, AddTwo()).a / n;
  }
  Two<T> sums{0, 0};
  part.each([&](int j, int64_t) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const T d = x[j].v[v] - mean;
      sums.a += d;
      sums.b += d * d;
    }
  });
  sums = reduce_group(sums, width, meet, AddTwo());
  const T off = centered ? sums.a / n : T(0);
  return {mean + off, sums.b - off * sums.a};
}

// Elements of a chunk.
__device__ inline int64_t chunk_size(const RowCut& cut, int64_t chunk) {
  const int64_t left = cut.size - chunk * cut.chunk;
  return left < cut.chunk ? left : cut.chunk;
}

// Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
template <class T>
__device__ Two<T> meet_moments(const Norm& p, int64_t row) {
  const Two<T>* chunks = reinterpret_cast<const Two<T>*>(p.chunks) + row * p.cut.chunks;
  double n = 0, mean = 0, m2 = 0;
  for (int64_t k = 0; k < p.cut.chunks; ++k) {
    const double more = static_cast<double>(chunk_size(p.cut, k)), delta = chunks[k].a - mean;
    n += more;
    mean += delta * (more / n);
    m2 += chunks[k].b + delta * delta * (more / n) * (n - more);
  }
  return {static_cast<T>(p.centered ? mean : 0), static_cast<T>(m2)};
}

template <class T, int V, int P>
__global__ void __launch_bounds__(most_threads(V* P)) layer_norm(const __grid_constant__ Norm p) {
  __shared__ Two<T> meet[kMostWarps];
  const RowPart<T, V, P> part(p.cut, group_of(p.cut));
  Pack<T, V> x[P];
  part.load(p.x, T(0), x);
  Two<T> m{0, 0};
  if (p.phase == kFinish) {
    if (part.valid) m = meet_moments<T>(p, part.row);
  } else {
    const T n = static_cast<T>(chunk_size(p.cut, part.chunk));
    m = moments<T, V, P>(x, part, n, p.centered, p.cut.width(), meet);
  }
  if (!part.valid) return;
  if (p.phase == kChunks) {
    if (part.lane == 0)
      reinterpret_cast<Two<T>*>(p.chunks)[part.row * p.cut.chunks + part.chunk] = m;
    return;
  }
  const T inv = T(1) / sqrt(m.b / static_cast<T>(p.cut.size) + static_cast<T>(p.epsilon));
  if (p.mean && part.lane == 0 && part.chunk == 0) {
    reinterpret_cast<T*>(p.mean)[part.row] = m.a;
    reinterpret_cast<T*>(p.inv)[part.row] = inv;
  }
  part.each([&](int j, int64_t c) {
    const Pack<T, V> gamma = vector_at<T, V>(p.gamma, c, p.packed),
                     beta = vector_at<T, V>(p.beta, c, p.packed);
#pragma unroll
    for (int v = 0; v < V; ++v) x[j].v[v] = (x[j].v[v] - m.a) * inv * gamma.v[v] + beta.v[v];
  });
  part.store(p.y, x);
}

// Rows k parts + part, k = 0, 1, ..: neighbouring groups have neighbouring rows. A group is of one
// part, and of one chunk of its rows.
template <class T, int V, int P>
__global__ void __launch_bounds__(most_threads(V* P))
    layer_norm_grad(const __grid_constant__ Norm p) {
  __shared__ Two<T> meet[kMostWarps];
  const int width = p.cut.width();
  const int64_t group = group_of(p.cut), mine = group / p.cut.chunks;
  Pack<T, V> dgamma[P]{}, dbeta[P]{};
  for (int64_t first = 0; first < p.cut.rows; first += p.parts) {
    const int64_t row = mine < p.parts ? first + mine : p.cut.rows;
    const RowPart<T, V, P> part(p.cut, row * p.cut.chunks + group % p.cut.chunks);
    Pack<T, V> x[P], g[P];
    part.load(p.x, T(0), x);
    part.load(p.dy, T(0), g);
    const T mean = part.valid ? reinterpret_cast<const T*>(p.mean)[row] : T(0);
    const T inv = part.valid ? reinterpret_cast<const T*>(p.inv)[row] : T(0);
    Two<T> sums{0, 0};  // of g and g h
    part.each([&](int j, int64_t c) {
      const Pack<T, V> gamma = vector_at<T, V>(p.gamma, c, p.packed);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const T d = g[j].v[v];
        x[j].v[v] = (x[j].v[v] - mean) * inv;
        dgamma[j].v[v] += d * x[j].v[v];
        dbeta[j].v[v] += d;
        g[j].v[v] = d * gamma.v[v];
        sums.a += g[j].v[v];
        sums.b += g[j].v[v] * x[j].v[v];
      }
    });
    auto* chunks = reinterpret_cast<Two<T>*>(p.chunks) + (part.valid ? row : 0) * p.cut.chunks;
    if (p.phase == kFinish) {
      sums = {0, 0};
      for (int64_t k = part.lane; k < p.cut.chunks; k += width) sums = AddTwo()(sums, chunks[k]);
    }
    sums = reduce_group(sums, width, meet, AddTwo());
    if (p.phase == kChunks) {
      if (part.valid && part.lane == 0) chunks[part.chunk] = sums;
      continue;
    }
    const T n = static_cast<T>(p.cut.size), slope = sums.b / n,
            shift = p.centered ? sums.a / n : T(0);
#pragma unroll
    for (int j = 0; j < P; ++j)
#pragma unroll
      for (int v = 0; v < V; ++v) g[j].v[v] = inv * (g[j].v[v] - x[j].v[v] * slope - shift);
    part.store(p.y, g);
  }
  if (p.phase == kChunks || !p.partial || mine >= p.parts) return;
  const RowPart<T, V, P> part(p.cut, group % p.cut.chunks);
  T* sums = reinterpret_cast<T*>(p.partial) + mine * 2 * p.cut.size;
  part.each([&](int j, int64_t c) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      sums[c + v] = dgamma[j].v[v];
      sums[p.cut.size + c + v] = dbeta[j].v[v];
    }
  });
}

// dgamma and dbeta (blockIdx.y) from the sums of the parts.
template <class T>
__global__ void __launch_bounds__(kMeet* kMeet)
    meet_parts(const T* __restrict__ partial, int64_t parts, int64_t size, T* dgamma, T* dbeta) {
  __shared__ double meet[kMeet * kMeet];
  const int64_t c = int64_t{blockIdx.x} * kMeet + threadIdx.x % kMeet;
  double sum = 0;
  if (c < size) {
#pragma unroll 4
    for (int64_t k = threadIdx.x / kMeet; k < parts; k += kMeet)
      sum += partial[(2 * k + blockIdx.y) * size + c];
  }
  sum = reduce_columns(sum, kMeet, meet, Sum());
  if (threadIdx.x < kMeet && c < size) (blockIdx.y ? dbeta : dgamma)[c] = static_cast<T>(sum);
}

int64_t parts_of(const RowCut& cut) {
  const int64_t most = 131072 / cut.width(), limit = most < kMostParts ? most : kMostParts;
  return cut.rows < limit ? cut.rows : limit;
}

RowCut cut_of(const Tensor& x) {
  return x.dtype == DType::f64 ? cut_rows<double>(x.shape[0], x.shape[1])
                               : cut_rows<float>(x.shape[0], x.shape[1]);
}

int64_t chunk_bytes(const RowCut& cut, DType dtype) {
  return cut.chunks > 1
             ? ceil_div(cut.rows * cut.chunks * 2 * size_of(compute_type(dtype)), 64) * 64
             : 0;
}

template <class T>
cudaError_t start_forward(const Call& call, cudaStream_t stream) {
  const int n_results = call.n_tensors - 3;
  const Tensor *t = call.tensors, *in = t + n_results;
  Norm p{};
  p.cut = cut_of(in[0]), p.y = rows_of<T>(t[0]), p.x = rows_of<T>(in[0]);
  p.centered = call.ints[0] != 0, p.epsilon = call.floats[0];
  p.gamma = in[1].data, p.beta = in[2].data, p.chunks = call.shared;
  p.packed = is_aligned(p.gamma) && is_aligned(p.beta);
  if (n_results > 1) p.mean = t[1].data, p.inv = t[2].data;
  return with_packs<T>(p.cut, [&]<int V, int P>() {
    const unsigned blocks = blocks_of(p.cut, p.cut.rows * p.cut.chunks);
    p.phase = p.cut.chunks > 1 ? kChunks : kWhole;
    cudaError_t error = launch(layer_norm<T, V, P>, blocks, p.cut.threads, 0, stream, p);
    if (error || p.phase == kWhole) return error;
    p.phase = kFinish;
    return launch(layer_norm<T, V, P>, blocks, p.cut.threads, 0, stream, p);
  });
}

template <class T>
cudaError_t start_backward(const Call& call, cudaStream_t stream) {
  const int n_results = call.n_tensors - 5;
  const Tensor *t = call.tensors, *in = t + n_results;
  Norm p{};
  p.cut = cut_of(in[1]), p.y = rows_of<T>(t[0]);
  p.dy = rows_of<T>(in[0]), p.x = rows_of<T>(in[1]);
  p.mean = in[2].data, p.inv = in[3].data, p.gamma = in[4].data;
  p.packed = is_aligned(p.gamma), p.centered = call.ints[0] != 0;
  p.parts = parts_of(p.cut), p.chunks = call.shared;
  if (n_results > 1) p.partial = call.shared + chunk_bytes(p.cut, in[1].dtype);
  const cudaError_t error = with_packs<T>(p.cut, [&]<int V, int P>() {
    const unsigned blocks = blocks_of(p.cut, p.parts * p.cut.chunks);
    p.phase = p.cut.chunks > 1 ? kChunks : kWhole;
    cudaError_t failed = launch(layer_norm_grad<T, V, P>, blocks, p.cut.threads, 0, stream, p);
    if (failed || p.phase == kWhole) return failed;
    p.phase = kFinish;
    return launch(layer_norm_grad<T, V, P>, blocks, p.cut.threads, 0, stream, p);
  });
  if (error || n_results == 1) return error;
  const dim3 blocks(static_cast<unsigned>(ceil_div(p.cut.size, kMeet)),
                    static_cast<unsigned>(n_results - 1));
  return launch(meet_parts<T>, blocks, kMeet * kMeet, 0, stream,
                reinterpret_cast<const T*>(p.partial), p.parts, p.cut.size, t[1].template as<T>(),
                n_results > 2 ? t[2].template as<T>() : nullptr);
}

}  // namespace

const char* plan_layer_norm(const Call& call, Work& work) {
  if (const char* wrong = check_layer_norm(call)) return wrong;
  const Tensor& x = call.tensors[0];
  const double elements = static_cast<double>(x.shape[0]) * static_cast<double>(x.shape[1]);
  work.outputs = call.n_tensors - 3;
  work.shared_bytes = chunk_bytes(cut_of(x), x.dtype);
  work.flops = 9 * elements;
  work.bytes = 2 * elements * static_cast<double>(size_of(x.dtype));
  return nullptr;
}

cudaError_t launch_layer_norm(const Call& call, cudaStream_t stream) {
  return call.tensors[0].dtype == DType::f64 ? start_forward<double>(call, stream)
                                             : start_forward<float>(call, stream);
}

const char* plan_layer_norm_grad(const Call& call, Work& work) {
  if (const char* wrong = check_layer_norm_grad(call)) return wrong;
  const Tensor& x = call.tensors[0];
  const RowCut cut = cut_of(x);
  const double elements = static_cast<double>(x.shape[0]) * static_cast<double>(x.shape[1]);
  work.outputs = call.n_tensors - 5;
  work.shared_bytes =
      chunk_bytes(cut, x.dtype) + parts_of(cut) * 2 * cut.size * size_of(compute_type(x.dtype));
  work.flops = 16 * elements;
  work.bytes = 3 * elements * static_cast<double>(size_of(x.dtype));
  return nullptr;
}

cudaError_t launch_layer_norm_grad(const Call& call, cudaStream_t stream) {
  return call.tensors[0].dtype == DType::f64 ? start_backward<double>(call, stream)
                                             : start_backward<float>(call, stream);
}

}  // namespace dl::cuda
