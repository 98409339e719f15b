// out... = expression(in...), element by element, over any layout. Loops are merged as far as
// strides allow; a thread takes V neighbours of the innermost at a time.
//
// The limit is memory: 4 bytes an element and operand. Packs of four make the interpreter's
// instructions per element few enough to stay under it.
#include "cuda/expression.cuh"

#include <cstring>

#include "common/loops.h"

namespace dl::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kMaxOperands = kMaxValues + kMaxOutputs;
constexpr size_t kMostShared = 96 * 1024;  // any GPU from sm_80 on has it

struct Place {
  char* data;
  DType dtype;
  bool packed;  // packs lie whole and aligned
  int64_t stride[kMaxRank];
};

struct Pointwise {
  DeviceExpression e;
  int64_t size;
  int rank, width;  // width: elements of a pack
  int64_t shape[kMaxRank];
  Place place[kMaxOperands];  // outputs, then inputs
};

template <class T, int V>
struct Elements {  // a pack of the result's elements, wherever they lie
  int64_t index[kMaxRank];
  int rank, valid;

  __device__ Elements(const Pointwise& p, int64_t first) : rank(p.rank) {
    const int64_t left = p.size - first;
    valid = left < V ? static_cast<int>(left) : V;
#pragma unroll
    for (int d = kMaxRank - 1; d >= 0; --d) {
      index[d] = 0;
      if (d >= p.rank) continue;
      index[d] = d == 0 ? first : first % p.shape[d];
      first = d == 0 ? 0 : first / p.shape[d];
    }
  }

  __device__ int64_t offset(const Place& x) const {
    int64_t sum = 0;
#pragma unroll
    for (int d = 0; d < kMaxRank; ++d) {
      if (d < rank) sum += index[d] * x.stride[d];
    }
    return sum;
  }

  __device__ Pack<T, V> load(const Place& x) const {
    const int64_t at = offset(x);
    if (x.packed && valid == V) return load_neighbours<T, V>(x.data, x.dtype, at);
    const int64_t step = rank > 0 ? x.stride[rank - 1] : 0;
    Pack<T, V> pack;
    if (step == 0) {
      const T value = load_element<T>(x.data, x.dtype, at);
#pragma unroll
      for (int v = 0; v < V; ++v) pack.v[v] = value;
      return pack;
    }
#pragma unroll
    for (int v = 0; v < V; ++v)
      pack.v[v] = v < valid ? load_element<T>(x.data, x.dtype, at + v * step) : T(0);
    return pack;
  }

  __device__ void store(const Place& x, const Pack<T, V>& pack) const {
    const int64_t at = offset(x);
    if (x.packed && valid == V) return store_neighbours<T, V>(x.data, x.dtype, at, pack);
    const int64_t step = rank > 0 ? x.stride[rank - 1] : 0;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (v < valid) store_element<T>(x.data, x.dtype, at + v * step, pack.v[v]);
    }
  }
};

template <class T, int V>
__global__ void __launch_bounds__(kThreads) pointwise(const __grid_constant__ Pointwise p) {
  using P = Pack<T, V>;
  DL_SHARED(P, registers);
  const int64_t step = int64_t{gridDim.x} * kThreads * V;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V; i < p.size; i += step) {
    const Elements<T, V> here(p, i);
    evaluate<T, V>(
        p.e, registers + threadIdx.x, kThreads,
        [&](int input) { return here.load(p.place[p.e.n_out + input]); },
        [&](int output, const P& result) { here.store(p.place[output], result); });
  }
}

// Widest packs that whole rows, the strides outside and shared memory allow.
template <class T>
void choose_width(Pointwise& p) {
  constexpr int kWidest = 16 / sizeof(T);
  const bool rows = p.rank <= 1 || p.shape[p.rank - 1] % kWidest == 0;
  p.width = rows && registers_bytes<T, kWidest>(p.e, kThreads) <= kMostShared ? kWidest : 1;
}

const char* make(const Call& call, Expression& e, Pointwise& p) {
  const char* wrong = encode(call.ints, call.n_ints, call.floats, call.n_floats, e, p.e);
  if (wrong || (wrong = check_pointwise(call, e))) return wrong;
  Loops loops;
  add_loops(loops, call.tensors, call.n_tensors, 0, [](int) { return true; });
  p.rank = loops.rank;
  p.size = loops.size(0, loops.rank);
  for (int d = 0; d < p.rank; ++d) p.shape[d] = loops.shape[d];
  e.compute ? choose_width<double>(p) : choose_width<float>(p);
  for (int i = 0; i < call.n_tensors; ++i) {
    Place& x = p.place[i];
    x.dtype = call.tensors[i].dtype;
    x.packed = p.width > 1 && p.rank > 0 && loops.stride[p.rank - 1][i] == 1 &&
               (e.compute ? is_packable<double>(x.dtype) : is_packable<float>(x.dtype));
    for (int d = 0; d < p.rank; ++d) {
      x.stride[d] = loops.stride[d][i];
      x.packed &= d == p.rank - 1 || x.stride[d] % p.width == 0;
    }
  }
  return nullptr;
}

template <class T, int V>
cudaError_t start(const Pointwise& p, cudaStream_t stream) {
  const size_t shared = registers_bytes<T, V>(p.e, kThreads);
  if (const cudaError_t error = allow_shared(pointwise<T, V>, shared)) return error;
  return launch(pointwise<T, V>, grid_for(p.size, kThreads * V), kThreads, shared, stream, p);
}

}  // namespace

const char* plan_pointwise(const Call& call, Work& work) {
  Expression e;
  Pointwise p{};
  if (const char* wrong = make(call, e, p)) return wrong;
  work.outputs = e.n_out;
  work.prepared_bytes = sizeof p;
  if (call.prepared) std::memcpy(call.prepared, &p, sizeof p);
  work.flops = cost(e) * static_cast<double>(p.size);
  work.bytes = 0;
  for (int i = 0; i < call.n_tensors; ++i) {
    double elements = p.size > 0;
    for (int d = 0; d < p.rank; ++d)
      elements *= p.place[i].stride[d] ? static_cast<double>(p.shape[d]) : 1;
    work.bytes += elements * static_cast<double>(size_of(p.place[i].dtype));
  }
  return nullptr;
}

cudaError_t launch_pointwise(const Call& call, cudaStream_t stream) {
  Expression e;
  Pointwise p{};
  if (call.prepared) {
    std::memcpy(&p, call.prepared, sizeof p);
  } else {
    make(call, e, p);
  }
  if (p.size == 0) return cudaSuccess;
  for (int i = 0; i < call.n_tensors; ++i) {
    Place& x = p.place[i];
    x.data = call.tensors[i].data;
    x.packed &= reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  }
  const bool wide = p.width > 1;
  if (call.ints[0] == 1) return wide ? start<double, 2>(p, stream) : start<double, 1>(p, stream);
  return wide ? start<float, 4>(p, stream) : start<float, 1>(p, stream);
}

}  // namespace dl::cuda
