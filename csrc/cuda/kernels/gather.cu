// gather: out[l] = table[index[l]], converted to out's dtype as NumPy's astype does; 0 where
// index[l] is out of range.
#include "cuda/indexed_rows.cuh"

namespace dl::cuda {

namespace {

struct Gather {
  char *out, *table;
  DType out_dtype, table_dtype;
  Index index;
  RowAxes axes;
  int64_t rows, row, out_stride, table_stride, table_rows;
};

// Packs of at most 16 bytes at a time.
template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Neighbours {
  T v[V];
};

template <class To, class From>
__device__ inline To convert(From x) {
  if constexpr (std::is_same_v<To, uint8_t> && !std::is_integral_v<From>)
    return static_cast<uint8_t>(static_cast<int32_t>(x));
  return static_cast<To>(x);
}

template <class To, class From, int V>
__device__ inline void copy(const Gather& p, int64_t to, int64_t from, bool there) {
  Neighbours<From, V> x{};
  if (there)
    x = *reinterpret_cast<const Neighbours<From, V>*>(reinterpret_cast<const From*>(p.table) +
                                                      from);
  Neighbours<To, V> y;
#pragma unroll
  for (int v = 0; v < V; ++v)
    y.v[v] = p.out_dtype == DType::b8 ? To(x.v[v] != From(0)) : convert<To, From>(x.v[v]);
  *reinterpret_cast<Neighbours<To, V>*>(reinterpret_cast<To*>(p.out) + to) = y;
}

template <class To, int V>
__global__ void __launch_bounds__(kRowThreads) gather(const __grid_constant__ Gather p) {
  const int64_t packs = p.row / V, all = p.rows * packs;
  for (int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; i < all;
       i += int64_t{gridDim.x} * kRowThreads) {
    const int64_t l = packs == 1 ? i : i / packs, c = (i - l * packs) * V, v = p.index[l];
    const bool there = static_cast<uint64_t>(v) < static_cast<uint64_t>(p.table_rows);
    const int64_t to = l * p.out_stride + (V > 1 ? c : p.axes.offset(0, c));
    const int64_t from = there ? v * p.table_stride + (V > 1 ? c : p.axes.offset(1, c)) : 0;
    switch (p.table_dtype) {
      case DType::f32:
        copy<To, float, V>(p, to, from, there);
        break;
      case DType::f64:
        copy<To, double, V>(p, to, from, there);
        break;
      case DType::i32:
        copy<To, int32_t, V>(p, to, from, there);
        break;
      case DType::i64:
        copy<To, int64_t, V>(p, to, from, there);
        break;
      case DType::bf16:
        copy<To, Bf16, V>(p, to, from, there);
        break;
      case DType::f16:
        copy<To, F16, V>(p, to, from, there);
        break;
      default:
        copy<To, uint8_t, V>(p, to, from, there);
    }
  }
}

template <class To>
cudaError_t start_gather(const Gather& p, bool wide, cudaStream_t stream) {
  if (wide)
    return launch(gather<To, 4>, grid_for(p.rows * p.row / 4, kRowThreads), kRowThreads, 0, stream,
                  p);
  return launch(gather<To, 1>, grid_for(p.rows * p.row, kRowThreads), kRowThreads, 0, stream, p);
}

}  // namespace

const char* plan_gather(const Call& call, Work& work) {
  if (const char* wrong = check_gather(call)) return wrong;
  const Tensor &out = call.tensors[0], &table = call.tensors[1], &index = call.tensors[2];
  const int64_t row = count(out, 1, out.rank), bytes = size_of(out.dtype) + size_of(table.dtype);
  work.bytes =
      static_cast<double>(out.shape[0]) * static_cast<double>(row * bytes + size_of(index.dtype));
  return nullptr;
}

cudaError_t launch_gather(const Call& call, cudaStream_t stream) {
  const Tensor &out = call.tensors[0], &table = call.tensors[1], &index = call.tensors[2];
  Gather p{};
  p.out = out.data, p.table = table.data;
  p.out_dtype = out.dtype, p.table_dtype = table.dtype;
  p.index = index_of(index), p.axes = merge_axes(out, table);
  p.rows = out.shape[0], p.row = count(out, 1, out.rank);
  p.out_stride = out.stride[0], p.table_stride = table.stride[0], p.table_rows = table.shape[0];
  const bool wide = is_packed(out, p.axes, 0, 4) && is_packed(table, p.axes, 1, 4);
  switch (out.dtype) {
    case DType::f32:
      return start_gather<float>(p, wide, stream);
    case DType::f64:
      return start_gather<double>(p, wide, stream);
    case DType::i32:
      return start_gather<int32_t>(p, wide, stream);
    case DType::i64:
      return start_gather<int64_t>(p, wide, stream);
    case DType::bf16:
      return start_gather<Bf16>(p, wide, stream);
    case DType::f16:
      return start_gather<F16>(p, wide, stream);
    default:
      return start_gather<uint8_t>(p, wide, stream);
  }
}

}  // namespace dl::cuda
