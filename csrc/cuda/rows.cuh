// Rows in registers: a row belongs to a group of threads, from part of a warp to a block, that load
// it once, in packs of 16 bytes if its length allows, and meet in reductions.
//
//   pack j of a thread begins at element (j width + thread) V of the row
//
// Rows longer than the registers of a block are cut into chunks, which meet through memory: a first
// launch leaves what is to be known of each chunk, a second goes over them again.
//
// Which element goes where depends on the length of rows alone, not on how many there are nor on
// how they lie in memory, so a row's result always has the same bits.
#pragma once

#include "cuda/elements.cuh"
#include "cuda/reductions.cuh"

namespace dl::cuda {

template <class T>
constexpr int kPack = 16 / sizeof(T);
constexpr int kFew = 4;  // elements of a thread, for rows that a warp can take so
template <class T>
constexpr int kMany = 64 / sizeof(T);  // for longer ones

constexpr int kMostThreads = 512;  // of a row: each may have 128 registers

struct RowCut {
  int64_t rows, size, chunk, chunks;
  int width_bits, threads;  // of a row, of a block
  bool wide, narrow;        // packs of 16 bytes; kFew elements a thread

  __host__ __device__ int width() const { return 1 << width_bits; }
};

template <class T>
RowCut cut_rows(int64_t rows, int64_t size) {
  RowCut cut{};
  cut.rows = rows, cut.size = size;
  cut.wide = size % kPack<T> == 0;
  cut.narrow = size <= kWarp * kFew;
  const int64_t each = cut.narrow ? kFew : kMany<T>, threads = ceil_div(size, each);
  while (cut.width() < threads && cut.width() < kMostThreads) ++cut.width_bits;
  cut.threads = cut.width() < 256 ? 256 : cut.width();
  cut.chunk = cut.width() * each;
  cut.chunks = size > cut.chunk ? ceil_div(size, cut.chunk) : 1;
  return cut;
}

inline unsigned blocks_of(const RowCut& cut, int64_t groups) {
  return static_cast<unsigned>(ceil_div(groups, cut.threads >> cut.width_bits));
}

// f.operator()<V, P>() with P packs of V elements for a thread.
template <class T, class F>
cudaError_t with_packs(const RowCut& cut, F&& f) {
  constexpr int V = kPack<T>;
  if (cut.narrow)
    return cut.wide ? f.template operator()<V, kFew / V>() : f.template operator()<1, kFew>();
  return cut.wide ? f.template operator()<V, kMany<T> / V>() : f.template operator()<1, kMany<T>>();
}

// The rows of a tensor: its last axis, over any leading ones.
struct RowsOf {
  char* data;
  DType dtype;
  bool packed;  // packs lie whole and aligned
  int64_t step;
  Layout rows;
};

template <class T>
RowsOf rows_of(const Tensor& t) {
  const int last = t.rank - 1;
  RowsOf r{t.data, t.dtype, false, t.stride[last], layout_of(t, 0, last)};
  r.packed = is_packable<T>(t.dtype) && r.step == 1 && is_aligned(t.data);
  for (int a = 0; a < r.rows.rank; ++a) r.packed &= r.rows.stride[a] % kPack<T> == 0;
  return r;
}

// What a thread has of a row.
template <class T, int V, int P>
struct RowPart {
  int64_t row, chunk, first, end;
  int lane, step;
  bool valid;

  __device__ RowPart(const RowCut& cut, int64_t group) {
    lane = threadIdx.x & (cut.width() - 1);
    row = group, chunk = 0;
    if (cut.chunks > 1) row = group / cut.chunks, chunk = group - row * cut.chunks;
    step = cut.width() * V;
    first = chunk * cut.chunk + lane * V;
    end = (chunk + 1) * cut.chunk;
    end = end < cut.size ? end : cut.size;
    valid = row < cut.rows;
    if (!valid) end = 0;
  }

  // f(pack, element) for the packs that exist; all else of the loop is for all.
  template <class F>
  __device__ void each(F&& f) const {
#pragma unroll
    for (int j = 0; j < P; ++j) {
      if (first + j * step < end) f(j, first + j * step);
    }
  }

  __device__ void load(const RowsOf& r, T padding, Pack<T, V> (&x)[P]) const {
    const int64_t at = valid ? r.rows.offset(row) : 0;
    const bool packed = V > 1 && r.packed;
#pragma unroll
    for (int j = 0; j < P; ++j) {
      const int64_t c = first + j * step;
      if (c < end && packed) {
        x[j] = load_neighbours<T, V>(r.data, r.dtype, at + c);
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v)
          x[j].v[v] = c < end ? load_real<T>(r.data, r.dtype, at + (c + v) * r.step) : padding;
      }
    }
  }

  __device__ void store(const RowsOf& r, const Pack<T, V> (&x)[P]) const {
    if (!valid) return;
    const int64_t at = r.rows.offset(row);
    each([&](int j, int64_t c) {
      if (V > 1 && r.packed) {
        store_neighbours<T, V>(r.data, r.dtype, at + c, x[j]);
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v)
          store_real<T>(r.data, r.dtype, at + (c + v) * r.step, x[j].v[v]);
      }
    });
  }
};

// The group of a thread, of all in the grid.
__device__ inline int64_t group_of(const RowCut& cut) {
  return (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) >> cut.width_bits;
}

// A block keeps to the registers that its threads may have.
constexpr int most_threads(int elements) { return elements <= kFew ? 256 : kMostThreads; }

}  // namespace dl::cuda
