// scatter_add: out[v] = base[v] (or 0) + sum of rows[l] over the l with index[l] = v, added in the
// order of l up to 64 at a time; out of range adds nothing. Halves are added in float32.
//
// There are no atomics: the pairs (index[l], l) are sorted, blocks first, then runs of them merged
// in pairs, every pair finding its place by bisection. Then each tile of 64 pairs adds its rows. An
// index whose pairs lie in one tile is done; one that many tiles share, as the padding of sequences
// does, leaves a partial sum in each, which meet in their order.
#include "cuda/indexed_rows.cuh"

namespace dl::cuda {

namespace {

constexpr int kSorted = 1024;  // pairs that a block sorts
constexpr int kTile = 64;      // pairs whose rows a thread adds
constexpr int kAhead = 4;      // rows in flight

struct Scatter {
  char *out, *rows;
  bool adds;  // to what is in out
  Index index;
  RowAxes axes;
  int64_t pairs, row, targets, out_stride, rows_stride;
  int64_t tiles, width;  // width: threads of a row, a power of two up to the block
  char *head, *tail;     // (tiles, row): sums that began in an earlier tile, or go on in the next
};

// (index, l) as one number; what is out of range comes last.
__device__ inline uint64_t pair_of(const Scatter& p, int64_t l) {
  const int64_t v = p.index[l];
  const bool there = static_cast<uint64_t>(v) < static_cast<uint64_t>(p.targets);
  return static_cast<uint64_t>(there ? v : p.targets) << 32 | static_cast<uint64_t>(l);
}

// Bitonic sort, in shared memory (Batcher 1968).
__global__ void __launch_bounds__(kRowThreads)
    sort_blocks(const __grid_constant__ Scatter p, uint64_t* sorted) {
  __shared__ uint64_t pair[kSorted];
  const int64_t first = int64_t{blockIdx.x} * kSorted;
  for (int i = threadIdx.x; i < kSorted; i += kRowThreads)
    pair[i] = first + i < p.pairs ? pair_of(p, first + i) : ~uint64_t{0};
  for (int run = 2; run <= kSorted; run *= 2)
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int k = threadIdx.x; k < kSorted / 2; k += kRowThreads) {
        const int i = k / step * 2 * step + k % step;
        const uint64_t a = pair[i], b = pair[i + step];
        if ((a > b) == ((i & run) == 0)) pair[i] = b, pair[i + step] = a;
      }
    }
  __syncthreads();
  for (int i = threadIdx.x; i < kSorted && first + i < p.pairs; i += kRowThreads)
    sorted[first + i] = pair[i];
}

// Sorted runs become sorted runs of twice the length.
__global__ void __launch_bounds__(kRowThreads)
    merge_runs(const uint64_t* __restrict__ from, uint64_t* __restrict__ to, int64_t n,
               int64_t run) {
  const int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i >= n) return;
  const uint64_t pair = from[i];
  const int64_t mine = i / run * run, other = mine / run % 2 ? mine - run : mine + run;
  int64_t low = other < n ? other : n, high = other + run < n ? other + run : n;
  while (low < high) {  // pairs differ: no ties
    const int64_t middle = (low + high) / 2;
    if (from[middle] < pair) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  to[(mine < other ? mine : other) + (i - mine) + (low - (other < n ? other : n))] = pair;
}

// Rows are stored as E, and added as T.
template <class E, int V>
struct Adder {
  using T = Computed<E>;
  const Scatter& p;
  int64_t c;  // the column, or the first of a pack of them

  __device__ Pack<T, V> row(int64_t l) const {
    const E* from = reinterpret_cast<const E*>(p.rows) + l * p.rows_stride;
    return load_stored<V>(from + (V > 1 ? c : p.axes.offset(1, c)));
  }

  __device__ Pack<T, V>& partial(char* base, int64_t tile) const {
    return *reinterpret_cast<Pack<T, V>*>(reinterpret_cast<T*>(base) + tile * p.row + c);
  }

  __device__ void store(int64_t target, Pack<T, V> x) const {
    E* to = reinterpret_cast<E*>(p.out) + target * p.out_stride + (V > 1 ? c : p.axes.offset(0, c));
    if (p.adds) add(x, load_stored<V>(to));
    store_stored<V>(to, x);
  }

  static __device__ void add(Pack<T, V>& sum, const Pack<T, V>& x) {
#pragma unroll
    for (int v = 0; v < V; ++v) sum.v[v] += x.v[v];
  }
};

// The target of pair i, or -1 outside: no pair has it.
__device__ inline int64_t target_at(const Scatter& p, const uint64_t* sorted, int64_t i) {
  return i >= 0 && i < p.pairs ? static_cast<int64_t>(sorted[i] >> 32) : -1;
}

// f(tile, adder) for what is this thread's.
template <class E, int V, class F>
__device__ inline void each_tile(const Scatter& p, F&& f) {
  const int width = static_cast<int>(p.width), lane = threadIdx.x & (width - 1);
  const int64_t tile = int64_t{blockIdx.x} * (kRowThreads / width) + threadIdx.x / width;
  if (tile >= p.tiles) return;
  for (int64_t c = int64_t{lane} * V; c < p.row; c += int64_t{width} * V)
    f(tile, Adder<E, V>{p, c});
}

template <class E, int V>
__global__ void __launch_bounds__(kRowThreads)
    add_tiles(const __grid_constant__ Scatter p, const uint64_t* __restrict__ sorted) {
  using T = Computed<E>;
  each_tile<E, V>(p, [&](int64_t tile, const Adder<E, V>& adder) {
    const int64_t first = tile * kTile, end = min(first + kTile, p.pairs);
    const int64_t before = target_at(p, sorted, first - 1);
    Pack<T, V> sum{}, row[kAhead];
    bool whole = target_at(p, sorted, first) != before;  // did the run begin in this tile?
    for (int64_t i = first; i < end; i += kAhead) {
      int64_t target[kAhead + 1];
#pragma unroll
      for (int k = 0; k <= kAhead; ++k) target[k] = target_at(p, sorted, i + k);
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (i + k < end && target[k] != p.targets)
          row[k] = adder.row(static_cast<int64_t>(sorted[i + k] & 0xFFFFFFFF));
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const bool last = i + k + 1 == end;
        if (i + k >= end || target[k] == p.targets) return;
        adder.add(sum, row[k]);
        if (!last && target[k + 1] == target[k]) continue;
        if (!whole) {
          adder.partial(p.head, tile) = sum;
        } else if (last && target[k + 1] == target[k]) {
          adder.partial(p.tail, tile) = sum;
        } else {
          adder.store(target[k], sum);
        }
        sum = Pack<T, V>{};
        whole = true;
      }
    }
  });
}

// Runs that go on over several tiles, by the tile where they begin.
template <class E, int V>
__global__ void __launch_bounds__(kRowThreads)
    add_partials(const __grid_constant__ Scatter p, const uint64_t* __restrict__ sorted) {
  using T = Computed<E>;
  each_tile<E, V>(p, [&](int64_t tile, const Adder<E, V>& adder) {
    const int64_t next = (tile + 1) * kTile, target = target_at(p, sorted, next);
    if (target < 0 || target == p.targets || target_at(p, sorted, next - 1) != target) return;
    const int64_t first = tile * kTile;
    if (target_at(p, sorted, first) == target && target_at(p, sorted, first - 1) == target) return;
    Pack<T, V> sum = adder.partial(p.tail, tile);
#pragma unroll 4
    for (int64_t t = tile + 1; target_at(p, sorted, t * kTile) == target; ++t)
      adder.add(sum, adder.partial(p.head, t));
    adder.store(target, sum);
  });
}

template <class E>
__global__ void __launch_bounds__(kRowThreads) clear(const __grid_constant__ Scatter p) {
  const int64_t all = p.targets * p.row;
  for (int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x; i < all;
       i += int64_t{gridDim.x} * kRowThreads) {
    const int64_t v = i / p.row;
    reinterpret_cast<E*>(p.out)[v * p.out_stride + p.axes.offset(0, i - v * p.row)] = E(0.0f);
  }
}

// Two buffers of pairs, then two of partial sums.
int64_t pair_bytes(int64_t pairs) { return ceil_div(pairs * 8, 64) * 64; }
int64_t partial_bytes(int64_t pairs, int64_t row, DType dtype) {
  return ceil_div(ceil_div(pairs, kTile) * row * size_of(compute_type(dtype)), 64) * 64;
}

template <class E, int V>
cudaError_t add_rows(const Scatter& p, const uint64_t* sorted, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(ceil_div(p.tiles, kRowThreads / p.width));
  if (const cudaError_t error = launch(add_tiles<E, V>, blocks, kRowThreads, 0, stream, p, sorted))
    return error;
  if (p.tiles == 1) return cudaSuccess;
  return launch(add_partials<E, V>, blocks, kRowThreads, 0, stream, p, sorted);
}

template <class E>
cudaError_t start_scatter(const Call& call, Scatter& p, cudaStream_t stream) {
  const Tensor &out = call.tensors[0], &rows = call.tensors[1];
  const size_t bytes = static_cast<size_t>(p.targets * p.row) * sizeof(E);
  cudaError_t error = cudaSuccess;
  if (p.adds) {
    if (call.tensors[3].data != out.data)
      error =
          cudaMemcpyAsync(out.data, call.tensors[3].data, bytes, cudaMemcpyDeviceToDevice, stream);
  } else {
    error = is_dense(out, 0, out.rank) ? cudaMemsetAsync(out.data, 0, bytes, stream)
                                       : launch(clear<E>, grid_for(p.targets * p.row, kRowThreads),
                                                kRowThreads, 0, stream, p);
  }
  if (error || p.pairs == 0) return error;
  auto* sorted = reinterpret_cast<uint64_t*>(call.shared);
  auto* other = reinterpret_cast<uint64_t*>(call.shared + pair_bytes(p.pairs));
  p.head = call.shared + 2 * pair_bytes(p.pairs);
  p.tail = p.head + partial_bytes(p.pairs, p.row, out.dtype);
  error = launch(sort_blocks, static_cast<unsigned>(ceil_div(p.pairs, kSorted)), kRowThreads, 0,
                 stream, p, sorted);
  for (int64_t run = kSorted; !error && run < p.pairs; run *= 2) {
    error = launch(merge_runs, static_cast<unsigned>(ceil_div(p.pairs, kRowThreads)), kRowThreads,
                   0, stream, sorted, other, p.pairs, run);
    std::swap(sorted, other);
  }
  if (error) return error;
  constexpr int V = 16 / sizeof(Computed<E>);
  const bool wide = is_packed(out, p.axes, 0, V) && is_packed(rows, p.axes, 1, V);
  const int64_t threads = ceil_div(p.row, wide ? V : 1);
  for (p.width = 1; p.width < threads && p.width < kRowThreads;) p.width *= 2;
  return wide ? add_rows<E, V>(p, sorted, stream) : add_rows<E, 1>(p, sorted, stream);
}

}  // namespace

const char* plan_scatter_add(const Call& call, Work& work) {
  if (const char* wrong = check_scatter_add(call)) return wrong;
  const Tensor &out = call.tensors[0], &rows = call.tensors[1];
  if (call.n_tensors == 4 &&
      (!is_dense(out, 0, out.rank) || !is_dense(call.tensors[3], 0, out.rank)))
    return "scatter_add: expected a contiguous base of out's shape and dtype";
  if (out.shape[0] >= INT32_MAX || rows.shape[0] >= INT32_MAX)
    return "scatter_add: expected fewer than 2**31 rows on a GPU";
  const int64_t row = count(out, 1, out.rank), pairs = rows.shape[0];
  work.shared_bytes = 2 * pair_bytes(pairs) + 2 * partial_bytes(pairs, row, out.dtype);
  work.bytes = static_cast<double>(row * size_of(out.dtype)) *
                   (static_cast<double>(out.shape[0]) + 3.0 * static_cast<double>(pairs)) +
               8.0 * static_cast<double>(pairs);
  work.flops = static_cast<double>(row) * static_cast<double>(pairs);
  return nullptr;
}

cudaError_t launch_scatter_add(const Call& call, cudaStream_t stream) {
  const Tensor &out = call.tensors[0], &rows = call.tensors[1];
  Scatter p{};
  p.out = out.data, p.rows = rows.data, p.adds = call.n_tensors == 4;
  p.index = index_of(call.tensors[2]), p.axes = merge_axes(out, rows);
  p.pairs = rows.shape[0], p.row = count(out, 1, out.rank), p.targets = out.shape[0];
  p.out_stride = out.stride[0], p.rows_stride = rows.stride[0];
  p.tiles = ceil_div(p.pairs, kTile);
  if (p.targets * p.row == 0) return cudaSuccess;
  if (out.dtype == DType::f64) return start_scatter<double>(call, p, stream);
  return with_storage<float>(
      out.dtype, [&](auto kind) { return start_scatter<decltype(kind)>(call, p, stream); });
}

}  // namespace dl::cuda
