// Sums over the rows of x (B, R, C), one pass:
//
//   moments        mean, variance (B, G) over the R rows and the C / G channels of each group
//   centered_sums  s1 = sum over rows of dy, s2 = sum over rows of dy (x - mean)      all (B, C)
//
// which are all that batch, group and instance normalization and their gradients need.
//
// A block has a chunk of rows of some columns: `width` threads side by side, the others below them.
// For moments a thread takes eight rows at a time into registers, finds their mean and their
// squared distances from it, and these meet with what it had: Chan, Golub and LeVeque, "Algorithms
// for computing the sample variance", 1983, equation 2.1. So nothing cancels, however far the mean
// lies from 0. So do the threads of a block, and in a second launch, in double, the chunks. Within
// a chunk the first row is the origin, for means of few digits.
#include "cuda/elements.cuh"
#include "cuda/reductions.cuh"

namespace dl::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kRows = 8;     // in registers
constexpr int kMeet = 32;    // channels of a block of the second launch of centered_sums
constexpr int kWidest = 32;  // threads side by side: a line of 512 bytes

struct Plan {
  int64_t batch, rows, channels, groups;
  int64_t chunk, chunks, tiles;
  int width;
  const char *x, *dy, *mean;
  char *first, *second;  // results
  double* partial;       // (batch, chunks, 2, channels)
};

// n values of each of V columns: mean and sum of squared distances from it.
template <class T, int V>
struct Spread {
  T n;
  Pack<T, V> mean, m2;
};

struct MeetSpreads {
  template <class T, int V>
  __device__ Spread<T, V> operator()(const Spread<T, V>& a, const Spread<T, V>& b) const {
    if (a.n == T(0)) return b;
    if (b.n == T(0)) return a;
    Spread<T, V> s;
    s.n = a.n + b.n;
    const T share = b.n / s.n;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const T delta = b.mean.v[v] - a.mean.v[v];
      s.mean.v[v] = a.mean.v[v] + delta * share;
      s.m2.v[v] = a.m2.v[v] + b.m2.v[v] + delta * delta * (a.n * share);
    }
    return s;
  }
};

template <class T, int V>
struct Sums {
  Pack<T, V> s1, s2;
};

struct AddSums {
  template <class T, int V>
  __device__ Sums<T, V> operator()(Sums<T, V> a, const Sums<T, V>& b) const {
#pragma unroll
    for (int v = 0; v < V; ++v) a.s1.v[v] += b.s1.v[v], a.s2.v[v] += b.s2.v[v];
    return a;
  }
};

// The rows begin, begin + step, .. below end of a batch entry that a thread adds, from column c on.
struct Part {
  int64_t b, chunk, c, begin, end, step;
  bool valid, first;

  __device__ Part(const Plan& p, int V) {
    const int lane = threadIdx.x & (p.width - 1), below = threadIdx.x / p.width;
    int64_t unit = blockIdx.x;
    c = (unit % p.tiles * p.width + lane) * V;
    unit /= p.tiles;
    chunk = unit % p.chunks, b = unit / p.chunks;
    valid = c < p.channels, first = valid && below == 0;
    begin = chunk * p.chunk + below, step = kThreads / p.width;
    end = (chunk + 1) * p.chunk < p.rows ? (chunk + 1) * p.chunk : p.rows;
    if (!valid) end = 0;
  }

  __device__ double* result(const Plan& p) const {
    return p.partial + (b * p.chunks + chunk) * 2 * p.channels + c;
  }
};

// Mean and squared distances of n <= kRows rows.
template <class T, int V>
__device__ inline Spread<T, V> spread_of(const Pack<T, V> (&x)[kRows], int n) {
  Spread<T, V> s{};
  s.n = static_cast<T>(n);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    T sum = 0, m2 = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) sum += r < n ? x[r].v[v] : T(0);
    const T mean = n == kRows ? sum * (T(1) / kRows) : sum / s.n;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T d = r < n ? x[r].v[v] - mean : T(0);
      m2 += d * d;
    }
    s.mean.v[v] = mean, s.m2.v[v] = m2;
  }
  return s;
}

template <class E, int V>
__global__ void __launch_bounds__(kThreads) moments(const __grid_constant__ Plan p) {
  using T = Computed<E>;
  __shared__ Spread<T, V> meet[kThreads];
  const Part part(p, V);
  const E* x = reinterpret_cast<const E*>(p.x) + part.b * p.rows * p.channels + part.c;
  Spread<T, V> all{};
  Pack<T, V> origin{};
  if (part.valid && p.rows > 0) origin = load_stored<V>(x + part.chunk * p.chunk * p.channels);
#pragma unroll
  for (int v = 0; v < V; ++v) origin.v[v] = isfinite(origin.v[v]) ? origin.v[v] : T(0);
  for (int64_t r = part.begin; r < part.end; r += kRows * part.step) {
    Pack<T, V> some[kRows]{};
    int n = 0;
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      if (r + k * part.step >= part.end) continue;
      some[k] = load_stored<V>(x + (r + k * part.step) * p.channels);
#pragma unroll
      for (int v = 0; v < V; ++v) some[k].v[v] -= origin.v[v];
      n = k + 1;
    }
    all = MeetSpreads()(all, spread_of<T, V>(some, n));
  }
  all = reduce_columns(all, p.width, meet, MeetSpreads());
  if (!part.first) return;
  double* to = part.result(p);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    to[v] = static_cast<double>(origin.v[v]) + static_cast<double>(all.mean.v[v]);
    to[p.channels + v] = all.m2.v[v];
  }
}

// One group of channels of a batch entry by `width` threads.
template <class T>
__global__ void __launch_bounds__(kThreads) finish_moments(const __grid_constant__ Plan p) {
  __shared__ Spread<double, 1> meet[kMostWarps];
  const int lane = threadIdx.x & (p.width - 1);
  const int64_t unit = int64_t{blockIdx.x} * (kThreads / p.width) + threadIdx.x / p.width;
  const bool valid = unit < p.batch * p.groups;
  const int64_t b = valid ? unit / p.groups : 0, g = valid ? unit - b * p.groups : 0;
  const int64_t each = p.channels / p.groups;
  Spread<double, 1> all{};
  for (int64_t i = lane; i < p.chunks * each; i += p.width) {
    const int64_t chunk = i / each, left = p.rows - chunk * p.chunk;
    const double* from =
        p.partial + (b * p.chunks + chunk) * 2 * p.channels + g * each + (i - chunk * each);
    const Spread<double, 1> one{
        static_cast<double>(left < p.chunk ? left : p.chunk), {{from[0]}}, {{from[p.channels]}}};
    all = MeetSpreads()(all, one);
  }
  all = reduce_group(all, p.width, meet, MeetSpreads());
  if (!valid || lane != 0) return;
  const double n = static_cast<double>(p.rows) * static_cast<double>(each);
  const double mean = n > 0 ? all.mean.v[0] : static_cast<double>(NAN);  // of nothing
  reinterpret_cast<T*>(p.first)[unit] = static_cast<T>(mean);
  reinterpret_cast<T*>(p.second)[unit] = static_cast<T>(all.m2.v[0] / n);
}

template <class E, int V>
__global__ void __launch_bounds__(kThreads) centered_sums(const __grid_constant__ Plan p) {
  using T = Computed<E>;
  using P = Pack<T, V>;
  __shared__ Sums<T, V> meet[kThreads];
  const Part part(p, V);
  const int64_t at = part.b * p.rows * p.channels + part.c;
  const E *x = reinterpret_cast<const E*>(p.x) + at, *dy = reinterpret_cast<const E*>(p.dy) + at;
  P mean{};
  if (part.valid)
    mean = *reinterpret_cast<const P*>(reinterpret_cast<const T*>(p.mean) + part.b * p.channels +
                                       part.c);
  Sums<T, V> all{};
#pragma unroll 4
  for (int64_t r = part.begin; r < part.end; r += part.step) {
    const P d = load_stored<V>(dy + r * p.channels), h = load_stored<V>(x + r * p.channels);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      all.s1.v[v] += d.v[v];
      all.s2.v[v] += d.v[v] * (h.v[v] - mean.v[v]);
    }
  }
  all = reduce_columns(all, p.width, meet, AddSums());
  if (!part.first) return;
  double* to = part.result(p);
#pragma unroll
  for (int v = 0; v < V; ++v) to[v] = all.s1.v[v], to[p.channels + v] = all.s2.v[v];
}

// kMeet channels of a batch entry; blockIdx.y: s1 or s2.
template <class T>
__global__ void __launch_bounds__(kMeet* kMeet) finish_sums(const __grid_constant__ Plan p) {
  __shared__ double meet[kMeet * kMeet];
  const int64_t tiles = (p.channels + kMeet - 1) / kMeet, b = blockIdx.x / tiles;
  const int64_t c = blockIdx.x % tiles * kMeet + threadIdx.x % kMeet;
  double sum = 0;
  if (c < p.channels) {
    const double* from = p.partial + (b * p.chunks * 2 + blockIdx.y) * p.channels + c;
#pragma unroll 4
    for (int64_t k = threadIdx.x / kMeet; k < p.chunks; k += blockDim.x / kMeet)
      sum += from[k * 2 * p.channels];
  }
  sum = reduce_columns(sum, kMeet, meet, Sum());
  if (threadIdx.x < kMeet && c < p.channels)
    reinterpret_cast<T*>(blockIdx.y ? p.second : p.first)[b * p.channels + c] = static_cast<T>(sum);
}

const char* make(const Call& call, bool moments, Plan& p) {
  if (call.n_tensors != (moments ? 3 : 5)) return "moments: expected two results and their inputs";
  const Tensor *t = call.tensors, &x = t[moments ? 2 : 3];
  for (int i = 0; i < call.n_tensors; ++i) {
    const DType wanted = t[i].rank == 3 ? x.dtype : compute_type(x.dtype);
    if (t[i].dtype != wanted || !is_float_or_half(x.dtype) || !is_dense(t[i], 0, t[i].rank))
      return "moments: expected row-major arrays, all float32 or all float64";
  }
  if (x.rank != 3) return "moments: expected x (batch, rows, channels)";
  const int64_t most = x.shape[2] > 1 ? x.shape[2] : 1;
  p.groups = moments && call.n_ints == 1 ? call.ints[0] : most;
  if ((moments && call.n_ints != 1) || p.groups < 1 || x.shape[2] % p.groups)
    return "moments: expected groups that divide the channels";
  for (int i = 0; i < call.n_tensors; ++i) {
    if (i == 2 || (i == 3 && !moments)) continue;
    if (t[i].rank != 2 || t[i].shape[0] != x.shape[0] ||
        t[i].shape[1] != (moments ? p.groups : x.shape[2]))
      return "moments: expected (batch, groups or channels) beside x";
  }
  if (!moments && !same_shape(t[2], 0, x, 0)) return "moments: expected dy and x of one shape";
  p.batch = x.shape[0], p.rows = x.shape[1], p.channels = x.shape[2];
  p.chunk = chunk_of(p.rows, 512, 512);
  p.chunks = p.rows > p.chunk ? ceil_div(p.rows, p.chunk) : 1;
  return nullptr;
}

void bind(const Call& call, bool moments, Plan& p) {
  const Tensor* t = call.tensors;
  make(call, moments, p);
  p.first = t[0].data, p.second = t[1].data, p.x = t[moments ? 2 : 3].data;
  if (!moments) p.dy = t[2].data, p.mean = t[4].data;
  p.partial = reinterpret_cast<double*>(call.shared);
}

// How blocks lie over the columns, for packs of V.
unsigned lay(Plan& p, int V) {
  const int64_t packs = ceil_div(p.channels, V);
  for (p.width = 1; p.width < packs && p.width < kWidest;) p.width *= 2;
  p.tiles = ceil_div(packs, p.width);
  return static_cast<unsigned>(p.batch * p.chunks * p.tiles);
}

// Packs of what is computed, of 16 bytes.
template <class E>
constexpr int kPack = 16 / sizeof(Computed<E>);

// Whole packs for every row: dense rows of a multiple of V, from an aligned start.
template <class E>
bool is_wide(const Plan& p) {
  return p.channels % kPack<E> == 0 && is_aligned(p.x) && is_aligned(p.dy) && is_aligned(p.mean);
}

template <class E>
cudaError_t start_moments(const Call& call, cudaStream_t stream) {
  constexpr int V = kPack<E>;
  Plan p{};
  bind(call, true, p);
  const bool wide = is_wide<E>(p);
  const unsigned blocks = lay(p, wide ? V : 1);
  const cudaError_t error =
      launch(wide ? moments<E, V> : moments<E, 1>, blocks, kThreads, 0, stream, p);
  if (error) return error;
  const int64_t items = p.chunks * (p.channels / p.groups);
  for (p.width = 1; p.width * 4 < items && p.width < kThreads;) p.width *= 2;
  const int64_t units = ceil_div(p.batch * p.groups, kThreads / p.width);
  return launch(finish_moments<Computed<E>>, static_cast<unsigned>(units), kThreads, 0, stream, p);
}

template <class E>
cudaError_t start_sums(const Call& call, cudaStream_t stream) {
  constexpr int V = kPack<E>;
  Plan p{};
  bind(call, false, p);
  const bool wide = is_wide<E>(p);
  const unsigned blocks = lay(p, wide ? V : 1);
  const cudaError_t error =
      launch(wide ? centered_sums<E, V> : centered_sums<E, 1>, blocks, kThreads, 0, stream, p);
  if (error) return error;
  const int64_t below = power_of_two(p.chunks < kMeet ? p.chunks : kMeet);
  const dim3 grid(static_cast<unsigned>(p.batch * ceil_div(p.channels, kMeet)), 2);
  return launch(finish_sums<Computed<E>>, grid, static_cast<unsigned>(kMeet * below), 0, stream, p);
}

const char* plan(const Call& call, bool moments, Work& work) {
  Plan p{};
  if (const char* wrong = make(call, moments, p)) return wrong;
  const double elements =
      static_cast<double>(p.batch) * static_cast<double>(p.rows) * static_cast<double>(p.channels);
  work.outputs = 2;
  work.shared_bytes = p.batch * p.chunks * 2 * p.channels * 8;
  work.flops = 4 * elements;
  work.bytes = elements * (moments ? 1 : 2) * static_cast<double>(size_of(call.tensors[2].dtype));
  return nullptr;
}

}  // namespace

const char* plan_moments(const Call& call, Work& work) { return plan(call, true, work); }

cudaError_t launch_moments(const Call& call, cudaStream_t stream) {
  const DType dtype = call.tensors[2].dtype;
  if (dtype == DType::f64) return start_moments<double>(call, stream);
  return with_storage<float>(
      dtype, [&](auto kind) { return start_moments<decltype(kind)>(call, stream); });
}

const char* plan_centered_sums(const Call& call, Work& work) { return plan(call, false, work); }

cudaError_t launch_centered_sums(const Call& call, cudaStream_t stream) {
  const DType dtype = call.tensors[3].dtype;
  if (dtype == DType::f64) return start_sums<double>(call, stream);
  return with_storage<float>(dtype,
                             [&](auto kind) { return start_sums<decltype(kind)>(call, stream); });
}

}  // namespace dl::cuda
