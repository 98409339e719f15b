// out = sum, max, min or product of an expression over any axes; reduce.cuh says how it is cut.
// Max and min pass NaN on. Chunks meet in double, in a fixed order.
//
// An expression that is only its input is read straight from memory, four packs in flight; others
// are interpreted (expression.cuh).
#include "cuda/expression.cuh"
#include "cuda/reduce.cuh"

#include "common/reduce.h"

namespace dl::cuda {

namespace {

constexpr size_t kMostShared = 64 * 1024;  // beside what meets; any GPU from sm_80 on has it
constexpr int kInFlight = 4;

struct Place {
  char* data;
  DType dtype;
  bool packed;  // packs lie whole and aligned
  int64_t stride[kMaxRank];
};

struct Reduce {
  DeviceExpression e;
  ReduceCut cut;
  ReduceLoops loops;
  int kind, width;  // width: elements of a pack
  bool plain;       // the expression is its input, of the dtype of the computation
  char* chunks;
  Place place[1 + kMaxValues];  // the output, then inputs
};

template <class T>
__device__ inline T combine(int kind, T a, T b) {
  switch (kind) {
    case 0:
      return a + b;
    case 1:
      return a > b || a != a ? a : b;
    case 2:
      return a < b || a != a ? a : b;
    default:
      return a * b;
  }
}

template <class T>
struct Combine {
  int kind;

  __device__ T operator()(T a, T b) const { return combine(kind, a, b); }
  template <int V>
  __device__ Pack<T, V> operator()(const Pack<T, V>& a, const Pack<T, V>& b) const {
    Pack<T, V> x;
#pragma unroll
    for (int v = 0; v < V; ++v) x.v[v] = combine(kind, a.v[v], b.v[v]);
    return x;
  }
  __device__ T identity() const {
    const T most = static_cast<T>(HUGE_VAL);
    return kind == 0 ? T(0) : kind == 1 ? -most : kind == 2 ? most : T(1);
  }
};

template <class T, int V>
__device__ inline Pack<T, V> load_pack(const Place& x, int64_t at, int64_t step) {
  if (V > 1 && x.packed) return load_neighbours<T, V>(x.data, x.dtype, at);
  Pack<T, V> pack;
#pragma unroll
  for (int v = 0; v < V; ++v) pack.v[v] = load_element<T>(x.data, x.dtype, at + v * step);
  return pack;
}

// The elements of a part, of a plain input.
template <class T, int V>
__device__ Pack<T, V> reduce_plain(const Reduce& p, const ReducePart& part, Pack<T, V> sum) {
  const Combine<T> with{p.kind};
  const Place& x = p.place[1];
  const int kept = p.loops.kept, rank = p.loops.rank;
  const T* from =
      reinterpret_cast<const T*>(x.data) + p.loops.offset_of(0, kept, part.output, x.stride);
  const auto load = [&](int64_t i) {
    const int64_t at = rank == kept ? 0 : p.loops.offset_of(kept, rank, i, x.stride);
    return *reinterpret_cast<const Pack<T, V>*>(from + at);
  };
  int64_t i = part.begin;
  for (; i + (kInFlight - 1) * part.step < part.end; i += kInFlight * part.step) {
    Pack<T, V> some[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) some[k] = load(i + k * part.step);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) sum = with(sum, some[k]);
  }
  for (; i < part.end; i += part.step) sum = with(sum, load(i));
  return sum;
}

template <class T, int V>
__device__ Pack<T, V> reduce_expression(const Reduce& p, const ReducePart& part, Pack<T, V> sum,
                                        Pack<T, V>* registers) {
  const Combine<T> with{p.kind};
  const ReduceLoops& loops = p.loops;
  const int inner = p.cut.across ? loops.kept - 1 : loops.rank - 1;
  int64_t index[kMaxRank];
  loops.split(0, loops.kept, part.output, index);
  for (int64_t i = part.begin; i < part.end; i += part.step) {
    loops.split(loops.kept, loops.rank, i, index);
    evaluate<T, V>(
        p.e, registers + threadIdx.x, kReduceThreads,
        [&](int input) {
          const Place& x = p.place[1 + input];
          const int64_t at = loops.offset(0, loops.rank, index, x.stride);
          return load_pack<T, V>(x, at, V > 1 ? x.stride[inner] : 0);
        },
        [&](int, const Pack<T, V>& value) { sum = with(sum, value); });
  }
  return sum;
}

template <class T>
__device__ inline void store(const Reduce& p, int64_t output, T x) {
  const Place& out = p.place[0];
  store_element<T>(out.data, out.dtype, p.loops.offset_of(0, p.loops.kept, output, out.stride), x);
}

template <class T>
__device__ inline void finish(const Reduce& p, const ReducePart& part, int64_t output, T x) {
  if (p.cut.chunks > 1) {
    reinterpret_cast<double*>(p.chunks)[output * p.cut.chunks + part.chunk] = x;
  } else {
    store<T>(p, output, x);
  }
}

template <class T, int V, bool plain>
__global__ void __launch_bounds__(kReduceThreads, 2) reduce(const __grid_constant__ Reduce p) {
  using P = Pack<T, V>;
  __shared__ P meet[kReduceThreads];
  const ReducePart part(p.cut, V);
  const Combine<T> with{p.kind};
  P sum;
#pragma unroll
  for (int v = 0; v < V; ++v) sum.v[v] = with.identity();
  if constexpr (plain) {
    sum = reduce_plain<T, V>(p, part, sum);
  } else {
    DL_SHARED(P, registers);
    sum = reduce_expression<T, V>(p, part, sum, registers);
  }
  if (p.cut.across) {
    sum = reduce_columns(sum, p.cut.width, meet, with);
    if (!part.first) return;
#pragma unroll
    for (int v = 0; v < V; ++v) finish<T>(p, part, part.output + v, sum.v[v]);
  } else {
    T x = sum.v[0];
#pragma unroll
    for (int v = 1; v < V; ++v) x = with(x, sum.v[v]);
    x = reduce_group(x, p.cut.width, reinterpret_cast<T*>(meet), with);
    if (part.first) finish<T>(p, part, part.output, x);
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads) meet_chunks(const __grid_constant__ Reduce p) {
  __shared__ double meet[kMostWarps];
  const Combine<double> with{p.kind};
  const double* chunks = reinterpret_cast<const double*>(p.chunks) + blockIdx.x * p.cut.chunks;
  double x = with.identity();
  for (int64_t k = threadIdx.x; k < p.cut.chunks; k += kReduceThreads) x = with(x, chunks[k]);
  x = reduce_group(x, kReduceThreads, meet, with);
  if (threadIdx.x == 0) store<T>(p, int64_t{blockIdx.x}, static_cast<T>(x));
}

const char* make(const Call& call, Expression& e, Reduce& p) {
  if (const char* wrong = check_reduce(call, e)) return wrong;
  p.kind = static_cast<int>(call.ints[0]);
  if (const char* wrong =
          encode(call.ints + 1, call.n_ints - 1, call.floats, call.n_floats, e, p.e))
    return wrong;
  const auto [l, kept, across] = reduce_axes(call);
  p.loops.rank = l.rank, p.loops.kept = kept;
  for (int d = 0; d < l.rank; ++d) p.loops.shape[d] = l.shape[d];
  const int inner = across ? kept - 1 : l.rank - 1;
  const DType compute = e.compute ? DType::f64 : DType::f32;
  const int widest = e.compute ? 2 : 4;
  const size_t registers = size_t{16} * p.e.n_registers * kReduceThreads;
  p.width = inner >= 0 && l.shape[inner] % widest == 0 && registers <= kMostShared ? widest : 1;
  p.plain = e.n_ops == 0 && e.n_in == 1 && e.results[0] == 0 && call.tensors[1].dtype == compute;
  for (int t = 0; t < call.n_tensors; ++t) {
    Place& x = p.place[t];
    x.dtype = call.tensors[t].dtype;
    x.packed = p.width > 1 && l.stride[inner][t] == 1 &&
               (e.compute ? is_packable<double>(x.dtype) : is_packable<float>(x.dtype));
    for (int d = 0; d < l.rank; ++d) {
      x.stride[d] = l.stride[d][t];
      x.packed &= d == inner || x.stride[d] % p.width == 0;
    }
  }
  if (p.plain && !p.place[1].packed) p.width = 1;
  p.cut = cut_reduction(across, l.size(0, kept), l.size(kept, l.rank), kept ? l.shape[kept - 1] : 1,
                        p.width);
  return nullptr;
}

template <class T, int V, bool plain>
cudaError_t start(const Reduce& p, cudaStream_t stream) {
  const size_t shared = plain ? 0 : registers_bytes<T, V>(p.e, kReduceThreads);
  if (const cudaError_t error = allow_shared(reduce<T, V, plain>, shared)) return error;
  const cudaError_t error =
      launch(reduce<T, V, plain>, p.cut.blocks, kReduceThreads, shared, stream, p);
  if (error || p.cut.chunks == 1) return error;
  return launch(meet_chunks<T>, static_cast<unsigned>(p.cut.outputs), kReduceThreads, 0, stream, p);
}

template <class T>
cudaError_t start(Reduce& p, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(T);
  const bool wide = p.width > 1;
  if (p.plain && wide && is_aligned(p.place[1].data)) return start<T, V, true>(p, stream);
  if (p.plain && !wide) return start<T, 1, true>(p, stream);
  return wide ? start<T, V, false>(p, stream) : start<T, 1, false>(p, stream);
}

}  // namespace

const char* plan_reduce(const Call& call, Work& work) {
  Expression e;
  Reduce p{};
  if (const char* wrong = make(call, e, p)) return wrong;
  const double outputs = static_cast<double>(p.cut.outputs);
  if (p.cut.chunks > 1) work.shared_bytes = p.cut.outputs * p.cut.chunks * 8;
  work.flops = outputs * static_cast<double>(p.cut.size) * (cost(e) + 1);
  work.bytes = outputs * static_cast<double>(size_of(call.tensors[0].dtype));
  for (int t = 1; t < call.n_tensors; ++t) {
    double elements = 1;
    for (int d = 0; d < p.loops.rank; ++d)
      elements *= p.place[t].stride[d] ? static_cast<double>(p.loops.shape[d]) : 1;
    work.bytes += elements * static_cast<double>(size_of(p.place[t].dtype));
  }
  return nullptr;
}

cudaError_t launch_reduce(const Call& call, cudaStream_t stream) {
  Expression e;
  Reduce p{};
  make(call, e, p);
  p.chunks = call.shared;
  for (int t = 0; t < call.n_tensors; ++t) {
    p.place[t].data = call.tensors[t].data;
    p.place[t].packed &= is_aligned(call.tensors[t].data);
  }
  return e.compute ? start<double>(p, stream) : start<float>(p, stream);
}

}  // namespace dl::cuda
