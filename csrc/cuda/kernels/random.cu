// random: out = uniform in [low, high), normal(mean, stddev) or bernoulli(p), from Philox words.
//
//   block b     philox(b, stream, step, seed) of common/philox.h, step = counter[0] modulo 2^32
//   uniform     low + t (high - low), kept below high where the sum rounds up
//       f32     t = (w >> 8) 2^-24 of word i % 4 of block i / 4
//       f64     t = ((w >> 5) 2^26 + (w' >> 6)) 2^-53 of words 2 (i % 2) and on of block i / 2
//   normal      mean + stddev sqrt(-2 log u) (cos, sin)(2 pi v) for the elements 2 j and 2 j + 1
//               (Box and Muller 1958)
//       f32     u = (w + 1/2) 2^-32 of word 2 (j % 2), v = t of the next word, of block j / 2
//       f64     u = (53 bits + 1/2) 2^-53 of words 0 and 1, v = t of words 2 and 3, of block j
//   bernoulli   w < p 2^32 for word i % 4 of block i / 4, for every dtype
//
// Uniform and bernoulli have the CPU's bits. A thread makes the elements of a block, and stores
// them at once where they are neighbours.
#include "cuda/elements.cuh"

#include "common/philox.h"
#include "common/random.h"

namespace dl::cuda {

namespace {

constexpr int kThreads = 256;

struct Random {
  char* out;
  const int64_t* counter;
  Layout layout;
  int64_t size, kind;
  uint64_t seed;
  uint32_t stream, last;  // bernoulli: word <= last is a yes, if there is any
  bool dense, some;
  double low, scale, below_high;  // uniform; low and scale are mean and stddev of normal
};

__device__ inline double top24(uint32_t word) { return word >> 8; }

__device__ inline double top53(uint32_t u, uint32_t v) {  // an integer below 2^53
  return (u >> 5) * 0x1p26 + (v >> 6);
}

// float32's product is exact in double, float64's is rounded before the sum.
__device__ inline void uniform(const PhiloxWords& w, const Random& p, Pack<float, 4>& x) {
#pragma unroll
  for (int k = 0; k < 4; ++k)
    x.v[k] = fminf(static_cast<float>(top24(w.word[k]) * (p.scale * 0x1p-24) + p.low),
                   static_cast<float>(p.below_high));
}

__device__ inline void uniform(const PhiloxWords& w, const Random& p, Pack<double, 2>& x) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const double t = top53(w.word[2 * k], w.word[2 * k + 1]) * 0x1p-53;
    x.v[k] = fmin(__dadd_rn(__dmul_rn(t, p.scale), p.low), p.below_high);
  }
}

template <class T>
__device__ inline void box_muller(T u, T v, const Random& p, T* x) {
  const T radius = static_cast<T>(p.scale) * sqrt(T(-2) * log(u));
  const T angle = static_cast<T>(6.283185307179586) * v, mean = static_cast<T>(p.low);
  x[0] = mean + radius * cos(angle);
  x[1] = mean + radius * sin(angle);
}

__device__ inline void normal(const PhiloxWords& w, const Random& p, Pack<float, 4>& x) {
#pragma unroll
  for (int j = 0; j < 2; ++j)
    box_muller<float>((static_cast<float>(w.word[2 * j]) + 0.5f) * 0x1p-32f,
                      static_cast<float>(w.word[2 * j + 1] >> 8) * 0x1p-24f, p, x.v + 2 * j);
}

__device__ inline void normal(const PhiloxWords& w, const Random& p, Pack<double, 2>& x) {
  box_muller<double>((top53(w.word[0], w.word[1]) + 0.5) * 0x1p-53,
                     top53(w.word[2], w.word[3]) * 0x1p-53, p, x.v);
}

// Stored as E.
template <class E, int V>
__device__ inline void store(const Random& p, int64_t first, const Pack<Computed<E>, V>& x) {
  E* out = reinterpret_cast<E*>(p.out);
  if (p.dense && first + V <= p.size) {
    store_stored<V>(out + first, x);
    return;
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (first + v < p.size) out[p.layout.offset(first + v)] = E(x.v[v]);
  }
}

template <class E, bool kBits>
constexpr int kOfBlock = !kBits && std::is_same_v<E, double> ? 2 : 4;  // elements of a block

template <class E, bool kBits>
__global__ void __launch_bounds__(kThreads) random(const __grid_constant__ Random p) {
  using T = Computed<E>;
  constexpr int V = kOfBlock<E, kBits>;
  const uint32_t step = static_cast<uint32_t>(*p.counter);
  const int64_t blocks = (p.size + V - 1) / V;
  for (int64_t b = int64_t{blockIdx.x} * kThreads + threadIdx.x; b < blocks;
       b += int64_t{gridDim.x} * kThreads) {
    const PhiloxWords w = philox(static_cast<uint64_t>(b), p.stream, step, p.seed);
    Pack<T, V> x;
    if constexpr (kBits) {
#pragma unroll
      for (int k = 0; k < 4; ++k) x.v[k] = T(p.some && w.word[k] <= p.last);
    } else if (p.kind == kUniform) {
      uniform(w, p, x);
    } else {
      normal(w, p, x);
    }
    store<E, V>(p, V * b, x);
  }
}

// The width of the range has the bits of T.
template <class T>
void set_range(const double* floats, Random& p) {
  const T low = static_cast<T>(floats[0]), high = static_cast<T>(floats[1]);
  p.low = low;
  p.scale = static_cast<T>(static_cast<double>(high) - low);
  p.below_high = sizeof(T) == 4
                     ? std::nextafter(static_cast<float>(high), static_cast<float>(low))
                     : std::nextafter(static_cast<double>(high), static_cast<double>(low));
}

template <class E, bool kBits>
cudaError_t start(Random& p, cudaStream_t stream) {
  constexpr int V = kOfBlock<E, kBits>;
  p.dense = p.layout.rank == 1 && (p.size <= 1 || p.layout.stride[0] == 1) &&
            is_aligned(p.out, sizeof(Pack<E, V>));
  return launch(random<E, kBits>, grid_for(ceil_div(p.size, V), kThreads), kThreads, 0, stream, p);
}

}  // namespace

const char* plan_random(const Call& call, Work& work) {
  if (const char* wrong = check_random(call)) return wrong;
  const Tensor& out = call.tensors[0];
  const double n = static_cast<double>(count(out, 0, out.rank));
  work.flops = n * (call.ints[0] == kNormal ? 80 : 30);
  work.bytes = n * static_cast<double>(size_of(out.dtype));
  return nullptr;
}

cudaError_t launch_random(const Call& call, cudaStream_t stream) {
  const Tensor& out = call.tensors[0];
  Random p{};
  p.out = out.data, p.counter = call.tensors[1].as<int64_t>();
  p.layout = layout_of(out, 0, out.rank), p.size = count(out, 0, out.rank);
  p.kind = call.ints[0], p.seed = static_cast<uint64_t>(call.ints[1]);
  p.stream = static_cast<uint32_t>(call.ints[2]);
  p.low = call.floats[0];
  if (p.kind == kNormal) p.scale = call.floats[1];
  if (p.kind == kUniform)
    out.dtype == DType::f64 ? set_range<double>(call.floats, p) : set_range<float>(call.floats, p);
  if (p.kind == kBernoulli) {  // word < p 2^32 just where word <= ceil(p 2^32) - 1
    p.some = p.low > 0;
    p.last = last_of(p.low);
  }
  const bool bits = p.kind == kBernoulli;
  switch (out.dtype) {
    case DType::f32:
      return bits ? start<float, true>(p, stream) : start<float, false>(p, stream);
    case DType::f64:
      return bits ? start<double, true>(p, stream) : start<double, false>(p, stream);
    case DType::bf16:
      return bits ? start<Bf16, true>(p, stream) : start<Bf16, false>(p, stream);
    case DType::f16:
      return bits ? start<F16, true>(p, stream) : start<F16, false>(p, stream);
    case DType::i32:
      return start<int32_t, true>(p, stream);
    case DType::i64:
      return start<int64_t, true>(p, stream);
    default:
      return start<uint8_t, true>(p, stream);
  }
}

}  // namespace dl::cuda
