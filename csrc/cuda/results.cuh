// What becomes of sums: out... = f(sum, extra inputs...) for a matrix of sums whose rows are the
// elements of up to five axes and whose columns are one more.
//
// A bias, relu and relu's gradient are applied in registers. Any other expression goes over the
// tile a part at a time, in shared memory, through one function that is compiled once; so does a
// layout whose rows do not lie evenly.
#pragma once

#include "cuda/tile.cuh"

#include "common/epilogue.h"
#include "common/loops.h"

namespace dl::cuda {

constexpr int kRowAxes = 5;
constexpr int kMostPlaces = kMaxValues + kMaxOutputs;
constexpr size_t kMostShared = 96 * 1024;  // of a block; any GPU from sm_80 on has it

struct Results {
  struct Place {
    char* data;
    DType dtype;
    bool whole;                    // packs of neighbouring columns lie whole and aligned
    int64_t stride[kRowAxes + 1];  // rows, outermost first, then columns
  };

  DeviceExpression e;
  Store store;
  bool simple;  // rows of one stride: `store` is all there is to do
  bool even;    // and operands have the dtype of the sums
  int extra;    // place of its operand
  int rank;     // row axes
  int width;    // columns of a pack
  int64_t shape[kRowAxes];
  int64_t cols;
  Place place[kMostPlaces];  // outputs, then the expression's inputs from 1 on
};

// ---- on the host ----

// Bytes of the operands that are not repetitions.
inline double distinct_bytes(const Call& call) {
  double sum = 0;
  for (int t = 0; t < call.n_tensors; ++t) {
    const Tensor& x = call.tensors[t];
    double bytes = static_cast<double>(size_of(x.dtype));
    for (int d = 0; d < x.rank; ++d) bytes *= x.stride[d] ? static_cast<double>(x.shape[d]) : 1;
    sum += bytes;
  }
  return sum;
}

// nullptr or what is wrong; without ints, the sums are the result. e is what decode found.
inline const char* read_expression(const int64_t* ints, int n_ints, const double* floats,
                                   int n_floats, Expression& e, Results& r) {
  if (n_ints > 0) return encode(ints, n_ints, floats, n_floats, e, r.e);
  r.e = {};
  r.e.n_in = r.e.n_out = r.e.n_registers = 1;  // result 0 is input 0
  r.e.read = 1;
  e = {};
  e.n_in = e.n_out = 1;
  return nullptr;
}

inline void set_simple_store(const Expression& e, DType dtype, Results& r) {
  r.store = Store::plain, r.extra = 0;
  r.simple = r.rank <= 1;
  r.even = r.place[0].dtype == dtype;
  if (e.n_ops == 0) {
    r.simple &= e.n_out == 1 && r.e.result[0] == 0;
  } else {
    const Epilogue match = match_epilogue(e);
    r.store = match.store, r.extra = match.input;
    r.simple &= match.input > 0;
    if (match.input > 0)
      r.even &= r.place[match.input].dtype == dtype;  // one output: place = input
  }
  r.even &= r.simple;
}

// Places of the results t[0 ..) and of the extra inputs. Rows are the axes before the last, merged
// where all places allow it. `dtype` is that of the sums.
inline const char* place_results(const Tensor* t, const Tensor* extras, DType dtype,
                                 const Expression& e, Results& r) {
  const int n = e.n_out + e.n_in - 1, last = t[0].rank - 1;
  const auto tensor = [&](int i) -> const Tensor& {
    return i < e.n_out ? t[i] : extras[i - e.n_out];
  };
  r.rank = 0;
  for (int d = 0; d < last; ++d) {
    if (t[0].shape[d] == 1) continue;
    bool merges = r.rank > 0;
    for (int i = 0; merges && i < n; ++i)
      merges = r.place[i].stride[r.rank - 1] == tensor(i).stride[d] * t[0].shape[d];
    if (!merges && r.rank == kRowAxes) return "expected results and extra inputs of fewer axes";
    const int to = merges ? r.rank - 1 : r.rank++;
    r.shape[to] = merges ? r.shape[to] * t[0].shape[d] : t[0].shape[d];
    for (int i = 0; i < n; ++i) r.place[i].stride[to] = tensor(i).stride[d];
  }
  if (r.rank == 0) r.shape[0] = 1;
  for (int i = 0; i < n; ++i) {
    if (r.rank == 0) r.place[i].stride[0] = 0;
    r.place[i].dtype = tensor(i).dtype;
    r.place[i].stride[kRowAxes] = t[0].shape[last] == 1 ? 1 : tensor(i).stride[last];
  }
  r.cols = t[0].shape[last];
  set_simple_store(e, dtype, r);
  return nullptr;
}

// When addresses are known.
template <class T>
void set_addresses(const Tensor* t, const Tensor* extras, Results& r) {
  constexpr int kVector = 16 / sizeof(T);
  for (int i = 0; i < r.e.n_out + r.e.n_in - 1; ++i) {
    Results::Place& x = r.place[i];
    x.data = i < r.e.n_out ? t[i].data : extras[i - r.e.n_out].data;
    x.whole = is_packable<T>(x.dtype) && x.stride[kRowAxes] == 1 && is_aligned(x.data);
    for (int d = 0; d < r.rank; ++d) x.whole &= x.stride[d] % kVector == 0;
  }
}

// Sums that wait in shared memory at once: a part of a tile; then registers of the expression.
template <class C>
constexpr int kPartRows = C::kRows / (C::kHeight / C::kRun);
template <class C>
constexpr size_t kPartBytes = kPartRows<C> * C::kCols * sizeof(typename C::Type);

// Shared memory of a kernel that multiplies and stores tiles of C.
template <class C>
size_t choose_width(Results& r) {
  using T = typename C::Type;
  constexpr size_t kTile = C::kSharedBytes;
  r.width = C::kVector;
  if (r.even) return kTile;
  if (kPartBytes<C> + registers_bytes<T, C::kVector>(r.e, C::kThreads) > kMostShared) r.width = 1;
  const size_t registers = r.width == 1 ? registers_bytes<T, 1>(r.e, C::kThreads)
                                        : registers_bytes<T, C::kVector>(r.e, C::kThreads);
  const size_t both = kPartBytes<C> + registers;
  return both > kTile ? both : kTile;
}

// ---- on the device ----

// Element offsets of row `row` in the places.
struct RowIndex {
  int64_t index[kRowAxes];
  int rank;

  __device__ RowIndex(const Results& r, int64_t row) : rank(r.rank) {
#pragma unroll
    for (int d = kRowAxes - 1; d >= 0; --d) {
      index[d] = 0;
      if (d >= rank) continue;
      index[d] = d == 0 ? row : row % r.shape[d];
      row = d == 0 ? 0 : row / r.shape[d];
    }
  }
  __device__ int64_t offset(const Results::Place& x) const {
    int64_t sum = 0;
#pragma unroll
    for (int d = 0; d < kRowAxes; ++d) {
      if (d < rank) sum += index[d] * x.stride[d];
    }
    return sum;
  }
};

// V columns from element `at` on, of which `left` or more are there.
template <class T, int V>
__device__ inline Pack<T, V> load_columns(const Results::Place& x, int64_t at, int64_t left) {
  if (x.whole && left >= V) return load_neighbours<T, V>(x.data, x.dtype, at);
  Pack<T, V> pack;
#pragma unroll
  for (int v = 0; v < V; ++v)
    pack.v[v] = v < left ? load_element<T>(x.data, x.dtype, at + v * x.stride[kRowAxes]) : T(0);
  return pack;
}

template <class T, int V>
__device__ inline void store_columns(const Results::Place& x, int64_t at, int64_t left,
                                     const Pack<T, V>& pack) {
  if (x.whole && left >= V) return store_neighbours<T, V>(x.data, x.dtype, at, pack);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (v < left) store_element<T>(x.data, x.dtype, at + v * x.stride[kRowAxes], pack.v[v]);
  }
}

// V sums from column `col` of row `row` on; columns end at `end`.
template <class T, int V>
__device__ inline void store_sums(const Results& r, const Pack<T, V>& sum, int64_t row, int64_t col,
                                  int64_t end, Pack<T, V>* registers, int stride) {
  const RowIndex here(r, row);
  const int64_t left = end - col;
  const auto load = [&](int input) {
    if (input == 0) return sum;
    const Results::Place& x = r.place[r.e.n_out + input - 1];
    const int64_t at = here.offset(x) + col * x.stride[kRowAxes];
    return load_columns<T, V>(x, at, left);
  };
  const auto store = [&](int output, const Pack<T, V>& pack) {
    const Results::Place& x = r.place[output];
    store_columns<T, V>(x, here.offset(x) + col * x.stride[kRowAxes], left, pack);
  };
  evaluate<T, V>(r.e, registers, stride, load, store);
}

// What a tile holds of the matrix of sums: `rows` rows from `row` on, columns [col, end).
struct TileSpan {
  int64_t row, col, end;
  int rows;
};

// One part of a tile, part_rows x part_cols in `sums`, rows part_step apart: its row s is the
// tile's row s / run * run_step + run_offset + s % run.
template <class T, int V>
__device__ __attribute__((noinline)) void store_part(const Results& r, const T* sums, int part_rows,
                                                     int part_cols, int part_step, int run,
                                                     int run_step, int run_offset, TileSpan tile,
                                                     void* registers) {
  const int threads = static_cast<int>(blockDim.x), packs = part_cols / V;
  auto* own = static_cast<Pack<T, V>*>(registers) + threadIdx.x;
  for (int i = threadIdx.x; i < part_rows * packs; i += threads) {
    const int s = i / packs, c = i % packs * V;
    const int row = s / run * run_step + run_offset + s % run;
    if (row >= tile.rows || tile.col + c >= tile.end) continue;
    store_sums<T, V>(r, *reinterpret_cast<const Pack<T, V>*>(sums + s * part_step + c),
                     tile.row + row, tile.col + c, tile.end, own, threads);
  }
}

template <class C>
__device__ inline void store_parts(const Results& r,
                                   const typename C::Type (&sum)[C::kHeight][C::kWidth],
                                   TileSpan tile, typename C::Type* shared) {
  using T = typename C::Type;
  constexpr int V = C::kVector, kRunRows = 4 * C::kRun;  // neighbouring rows of a warp
  void* registers = reinterpret_cast<char*>(shared) + kPartBytes<C>;
#pragma unroll
  for (int part = 0; part < C::kHeight / C::kRun; ++part) {
#pragma unroll
    for (int i = 0; i < C::kRun; ++i) {
      const int row = C::row(i), s = row / (4 * C::kHeight) * kRunRows + row % (4 * C::kHeight);
#pragma unroll
      for (int j = 0; j < C::kWidth / V; ++j)
        *reinterpret_cast<Pack<T, V>*>(shared + s * C::kCols + C::col(j)) =
            *reinterpret_cast<const Pack<T, V>*>(&sum[part * C::kRun + i][j * V]);
    }
    __syncthreads();
    if (r.width == 1) {
      store_part<T, 1>(r, shared, kPartRows<C>, C::kCols, C::kCols, kRunRows, 4 * C::kHeight,
                       part * kRunRows, tile, registers);
    } else {
      store_part<T, V>(r, shared, kPartRows<C>, C::kCols, C::kCols, kRunRows, 4 * C::kHeight,
                       part * kRunRows, tile, registers);
    }
    __syncthreads();
  }
}

// What `store` makes of sums and its operand.
template <class T, int V>
__device__ inline Pack<T, V> finish_simple(Store store, Pack<T, V> sums, const Pack<T, V>& x) {
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const T s = sums.v[v] + x.v[v];
    sums.v[v] = store == Store::relu_grad ? (x.v[v] > T(0) ? sums.v[v] : T(0))
                : store == Store::bias    ? s
                                          : (s < T(0) ? T(0) : s);
  }
  return sums;
}

template <class T, int V>
__device__ inline Pack<T, V> load_run(const Results::Place& x, int64_t at, int64_t left) {
  const T* from = reinterpret_cast<const T*>(x.data) + at;
  if (x.whole && left >= V) return *reinterpret_cast<const Pack<T, V>*>(from);
  Pack<T, V> pack;
#pragma unroll
  for (int v = 0; v < V; ++v) pack.v[v] = v < left ? from[v * x.stride[kRowAxes]] : T(0);
  return pack;
}

template <class C>
__device__ inline void store_even(const Results& r,
                                  const typename C::Type (&sum)[C::kHeight][C::kWidth],
                                  TileSpan tile) {
  using T = typename C::Type;
  constexpr int V = C::kVector;
  const Results::Place &y = r.place[0], &extra = r.place[r.extra];
#pragma unroll
  for (int j = 0; j < C::kWidth / V; ++j) {
    const int64_t c = tile.col + C::col(j), left = tile.end - c;
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
      const int64_t row = tile.row + C::row(i);
      if (C::row(i) >= tile.rows || left <= 0) continue;
      Pack<T, V> pack;
#pragma unroll
      for (int v = 0; v < V; ++v) pack.v[v] = sum[i][j * V + v];
      if (r.store != Store::plain) {
        const int64_t at = row * extra.stride[0] + c * extra.stride[kRowAxes];
        pack = finish_simple(r.store, pack, load_run<T, V>(extra, at, left));
      }
      T* to = reinterpret_cast<T*>(y.data) + row * y.stride[0] + c * y.stride[kRowAxes];
      if (y.whole && left >= V) {
        *reinterpret_cast<Pack<T, V>*>(to) = pack;
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          if (v < left) to[v * y.stride[kRowAxes]] = pack.v[v];
        }
      }
    }
  }
}

// All threads of the block, after multiply().
template <class C>
__device__ inline void store_tile(const Results& r,
                                  const typename C::Type (&sum)[C::kHeight][C::kWidth],
                                  TileSpan tile, typename C::Type* shared) {
  if (r.even) {
    store_even<C>(r, sum, tile);
  } else {
    store_parts<C>(r, sum, tile, shared);
  }
}

// ---- sums that were cut along k ----

constexpr int kFinishThreads = 128;

// Partial sums (parts, rows, cols) are added in order.
template <class T>
__global__ void __launch_bounds__(kFinishThreads)
    finish_sums(const __grid_constant__ Results r, const T* partial, int parts, int64_t rows) {
  using P = Pack<T, 1>;
  DL_SHARED(P, registers);
  const int64_t size = rows * r.cols, step = int64_t{gridDim.x} * kFinishThreads;
  for (int64_t i = int64_t{blockIdx.x} * kFinishThreads + threadIdx.x; i < size; i += step) {
    P sum{};
#pragma unroll 8
    for (int p = 0; p < parts; ++p) sum.v[0] += partial[p * size + i];
    store_sums<T, 1>(r, sum, i / r.cols, i % r.cols, r.cols, registers + threadIdx.x,
                     kFinishThreads);
  }
}

template <class T>
cudaError_t launch_finish(const Results& r, const T* partial, int parts, int64_t rows,
                          cudaStream_t stream) {
  const size_t shared = registers_bytes<T, 1>(r.e, kFinishThreads);
  if (const cudaError_t error = allow_shared(finish_sums<T>, shared)) return error;
  return launch(finish_sums<T>, grid_for(rows * r.cols, kFinishThreads), kFinishThreads, shared,
                stream, r, partial, parts, rows);
}

// Where partial sums go: rows of `cols` one behind the other.
template <class T>
Results partial_results(T* partial, int64_t cols) {
  Results r{};
  r.e.n_in = r.e.n_out = r.e.n_registers = 1;
  r.e.read = 1;
  r.store = Store::plain, r.simple = r.even = true;
  r.rank = 1, r.cols = cols;
  r.place[0].data = reinterpret_cast<char*>(partial);
  r.place[0].dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
  r.place[0].whole = cols % (16 / static_cast<int>(sizeof(T))) == 0;
  r.place[0].stride[0] = cols, r.place[0].stride[kRowAxes] = 1;
  return r;
}

}  // namespace dl::cuda
