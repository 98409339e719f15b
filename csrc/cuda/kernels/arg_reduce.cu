// out = index of the largest (or smallest) element along the one reduced axis: the first of equals;
// NaN wins, as in NumPy. Which of two wins does not depend on the order in which they meet.
#include "cuda/reduce.cuh"

#include "common/reduce.h"

namespace dl::cuda {

namespace {

struct ArgReduce {
  ReduceCut cut;
  ReduceLoops loops;  // the kept ones
  int64_t in_stride[kMaxRank], out_stride[kMaxRank], step;
  char *in, *out, *chunks;
  DType in_dtype, out_dtype;
  bool smallest;
};

template <class T>
struct Winner {
  int64_t index;  // -1: nothing yet
  T value;
};

template <class T>
struct Better {
  bool smallest;

  __device__ Winner<T> operator()(const Winner<T>& a, const Winner<T>& b) const {
    if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    const bool earlier = b.index < a.index;
    if (a_nan || b_nan) return b_nan && (!a_nan || earlier) ? b : a;
    if (a.value == b.value) return earlier ? b : a;
    return (smallest ? b.value < a.value : b.value > a.value) ? b : a;
  }
};

template <class T>
__device__ void store(const ArgReduce& p, int64_t output, const Winner<T>& w) {
  const int64_t at = p.loops.offset_of(0, p.loops.kept, output, p.out_stride);
  store_element<int64_t>(p.out, p.out_dtype, at, w.index);
}

// T is f32, or f64 for all other input types.
template <class T>
__global__ void __launch_bounds__(kReduceThreads) arg_reduce(const __grid_constant__ ArgReduce p) {
  __shared__ Winner<T> meet[kReduceThreads];
  const ReducePart part(p.cut, 1);
  const Better<T> better{p.smallest};
  const int64_t base = p.loops.offset_of(0, p.loops.kept, part.output, p.in_stride);
  Winner<T> best{-1, T(0)};
#pragma unroll 4
  for (int64_t i = part.begin; i < part.end; i += part.step)
    best = better(best, {i, load_element<T>(p.in, p.in_dtype, base + i * p.step)});
  best = p.cut.across ? reduce_columns(best, p.cut.width, meet, better)
                      : reduce_group(best, p.cut.width, meet, better);
  if (!part.first) return;
  if (p.cut.chunks > 1) {
    reinterpret_cast<Winner<T>*>(p.chunks)[part.output * p.cut.chunks + part.chunk] = best;
  } else {
    store(p, part.output, best);
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads) meet_chunks(const __grid_constant__ ArgReduce p) {
  __shared__ Winner<T> meet[kMostWarps];
  const Better<T> better{p.smallest};
  const auto* chunks = reinterpret_cast<const Winner<T>*>(p.chunks) + blockIdx.x * p.cut.chunks;
  Winner<T> best{-1, T(0)};
  for (int64_t k = threadIdx.x; k < p.cut.chunks; k += kReduceThreads)
    best = better(best, chunks[k]);
  best = reduce_group(best, kReduceThreads, meet, better);
  if (threadIdx.x == 0) store(p, int64_t{blockIdx.x}, best);
}

const char* make(const Call& call, ArgReduce& p) {
  const Tensor *t = call.tensors, &out = t[0], &in = t[1];
  int axis = -1;
  if (const char* wrong = check_arg_reduce(call, axis)) return wrong;
  const Tensor both[2] = {in, out};
  Loops kept;
  add_loops(kept, both, 2, 0, [&](int d) { return d != axis; });
  p.loops.rank = p.loops.kept = kept.rank;
  for (int d = 0; d < kept.rank; ++d) {
    p.loops.shape[d] = kept.shape[d];
    p.in_stride[d] = kept.stride[d][0], p.out_stride[d] = kept.stride[d][1];
  }
  p.step = axis < 0 ? 0 : in.stride[axis];
  const int inner = kept.rank - 1;
  const bool across =
      kept.rank > 0 && (axis < 0 || magnitude(p.in_stride[inner]) < magnitude(p.step));
  p.cut = cut_reduction(across, kept.size(0, kept.rank), axis < 0 ? 1 : in.shape[axis],
                        kept.rank ? kept.shape[inner] : 1, 1);
  p.smallest = call.ints[0] == 1;
  p.in_dtype = in.dtype, p.out_dtype = out.dtype;
  return nullptr;
}

template <class T>
cudaError_t start(const ArgReduce& p, cudaStream_t stream) {
  const cudaError_t error = launch(arg_reduce<T>, p.cut.blocks, kReduceThreads, 0, stream, p);
  if (error || p.cut.chunks == 1) return error;
  return launch(meet_chunks<T>, static_cast<unsigned>(p.cut.outputs), kReduceThreads, 0, stream, p);
}

}  // namespace

const char* plan_arg_reduce(const Call& call, Work& work) {
  ArgReduce p{};
  if (const char* wrong = make(call, p)) return wrong;
  const double elements = static_cast<double>(p.cut.outputs) * static_cast<double>(p.cut.size);
  if (p.cut.chunks > 1)
    work.shared_bytes = p.cut.outputs * p.cut.chunks * static_cast<int64_t>(sizeof(Winner<double>));
  work.flops = 2 * elements;
  work.bytes = elements * static_cast<double>(size_of(p.in_dtype));
  return nullptr;
}

cudaError_t launch_arg_reduce(const Call& call, cudaStream_t stream) {
  ArgReduce p{};
  make(call, p);
  p.out = call.tensors[0].data, p.in = call.tensors[1].data, p.chunks = call.shared;
  return p.in_dtype == DType::f32 ? start<float>(p, stream) : start<double>(p, stream);
}

}  // namespace dl::cuda
