// The tile core of products on tensor cores: a block sums C (rows x columns) = A @ B over k, in
// float32, from halves or from floats rounded to tf32.
//
//   for each 128 bytes of k       async copies keep kStages tiles of A and B in shared memory
//     for each 32 bytes of it     ldmatrix, then a warp's 64 x 64 (32 x 32) sums += 16 x 8 products
//
// An operand's tile lies as in memory: `along_k`, a row of 128 bytes of k for each x, or across, a
// row of x for each k, which ldmatrix transposes (floats are read one by one). Chunks of 16 bytes
// are swizzled, so that eight rows' chunks of one column lie in all banks: chunk c of row r is at
// c ^ r % 8, across for floats at c ^ 2 (r % 4).
//
// Every element of C is one chain over k, in order, whatever the tile: a row of a batch has the
// bits of that row alone.
#pragma once

#include "cuda/results.cuh"
#include "cuda/tensor_core.cuh"

namespace dl::cuda {

// Warps across rows and columns; fragments of 16 rows, and of 16 columns, of a warp.
template <class E, int kWarpsDown, int kWarpsAcross, int kFragmentRows, int kFragmentCols>
struct TensorTile {
  using Element = E;
  static constexpr int kVector = 16 / sizeof(E), kDepth = 128 / sizeof(E), kSteps = 4, kStages = 3;
  static constexpr int kWarpRows = kWarpsDown, kColWarps = kWarpsAcross;
  static constexpr int kHeight = kFragmentRows, kWidth = kFragmentCols;
  static constexpr int kThreads = kWarpsDown * kWarpsAcross * kWarp;
  // At once on a multiprocessor, as registers and its 227 KB of shared memory allow.
  static constexpr int kBlocks = kHeight * kWidth < 16 ? 4 : kThreads > 128 ? 1 : 2;
  static constexpr int kRows = kWarpsDown * kHeight * 16, kCols = kWarpsAcross * kWidth * 16;
  static constexpr int kStageBytes = (kRows + kCols) * 128, kSharedBytes = kStages * kStageBytes;
  // Sums meet in shared memory, those of one row of warps at a time; the padding puts the eight
  // rows that a warp stores at once into different banks.
  static constexpr int kPartRows = kHeight * 16, kPartStep = kCols + 8;
  static constexpr int kPartBytes = kPartRows * kPartStep * 4;
  static_assert(kPartBytes <= kSharedBytes);
};

template <class E>
using LargeTensorTile = TensorTile<E, 2, 4, 4, 4>;  // 128 x 256
template <class E>
using MiddleTensorTile = TensorTile<E, 2, 2, 4, 4>;  // 128 x 128
template <class E>
using SmallTensorTile = TensorTile<E, 2, 2, 2, 2>;  // 64 x 64

template <class E>
__device__ inline int swizzle(bool along_k, int chunk, int row) {
  return sizeof(E) == 4 && !along_k ? chunk ^ (row % 4 * 2) : chunk ^ (row % 8);
}

// ---- how a tile of an operand is filled ----

// The chunks of 16 bytes that a thread copies: chunk i lies in row `row` + i * row_step of the
// tile, at `at` + i * step of it. A row is an x (along k) or a k.
template <class C, int kExtent>
struct Chunks {
  static constexpr int V = C::kVector, kCount = kExtent * 8 / C::kThreads;
  static constexpr int kAcross = kExtent / V;  // chunks of a row of x
  static constexpr int kRowBytes = kAcross * 16;
  static_assert(kExtent * 8 % C::kThreads == 0 && C::kThreads % kAcross == 0);

  int row, chunk, row_step, at, step;

  __device__ explicit Chunks(bool along_k) {
    const int t = threadIdx.x, width = along_k ? 8 : kAcross;
    row = t / width, chunk = t % width, row_step = C::kThreads / width;
    const int bytes = along_k ? 128 : kRowBytes;
    at = row * bytes + swizzle<typename C::Element>(along_k, chunk, row) * 16;
    step = row_step * bytes;  // swizzled alike, as row_step is a multiple of the pattern
  }
};

// Elements that do not lie side by side, `count` of kVector of them.
template <class E>
__device__ inline void copy_scattered(SharedAddress to, const E* from, int64_t step, int count) {
  constexpr int V = 16 / sizeof(E);
  alignas(16) E x[V];
#pragma unroll
  for (int v = 0; v < V; ++v) x[v] = v < count ? from[v * step] : E(0.0f);
  uint32_t words[4];
  memcpy(words, x, 16);
  store_shared(to, words);
}

// A tile of a Matrix (tile.cuh); `whole`: chunks can be copied as they are.
template <class C, int kExtent>
class MatrixChunks {
  using E = typename C::Element;
  static constexpr int V = C::kVector;

 public:
  __device__ MatrixChunks(const Matrix& m, int64_t offset, int64_t first_x, int64_t first_k,
                          int64_t depth)
      : m_(m), chunks_(m.along_k), left_(depth) {
    const int64_t x = first_x + (m.along_k ? chunks_.row : chunks_.chunk * V);
    const int64_t k = first_k + (m.along_k ? chunks_.chunk * V : chunks_.row);
    from_ = reinterpret_cast<const E*>(m.data) + offset + x * m.x_stride + k * m.k_stride;
    const int64_t beyond = m.extent - x;
    x_left_ = static_cast<int>(beyond < 0 ? 0 : beyond < kExtent ? beyond : kExtent);
  }
  __device__ bool along_k() const { return m_.along_k; }

  // The next kDepth of k; what is not there becomes 0.
  __device__ void copy(SharedAddress to) {
    const int k_left = static_cast<int>(left_ < C::kDepth ? left_ : C::kDepth);
    const int in_chunk = m_.along_k ? k_left - chunks_.chunk * V : x_left_;
    const int count = in_chunk < 0 ? 0 : in_chunk < V ? in_chunk : V;
    const int rows = m_.along_k ? x_left_ : k_left - chunks_.row;
    const int64_t step = chunks_.row_step * (m_.along_k ? m_.x_stride : m_.k_stride);
    if (m_.whole) {
#pragma unroll
      for (int i = 0; i < Chunks<C, kExtent>::kCount; ++i)
        copy_async(to + chunks_.at + i * chunks_.step, from_ + i * step,
                   i * chunks_.row_step < rows ? count * static_cast<int>(sizeof(E)) : 0);
    } else {
      const int64_t along = m_.along_k ? m_.k_stride : m_.x_stride;
#pragma unroll 1
      for (int i = 0; i < Chunks<C, kExtent>::kCount; ++i)
        copy_scattered<E>(to + chunks_.at + i * chunks_.step, from_ + i * step, along,
                          i * chunks_.row_step < rows ? count : 0);
    }
    from_ += C::kDepth * m_.k_stride;
    left_ -= C::kDepth;
  }

 private:
  const Matrix& m_;
  const Chunks<C, kExtent> chunks_;
  const E* from_;
  int64_t left_;  // of k
  int x_left_;    // from this thread's first x on
};

// ---- how a warp reads it ----

// Fragments of 16 x by 32 bytes of k. Matrix q of a fragment has the x from 8 x_part and the bytes
// of k from 16 k_part: (x_part, k_part) = (q % 2, q / 2) for A, (q / 2, q % 2) for B.
template <class E, int kExtent, bool kIsA>
struct Fragments {
  static constexpr bool kFloats = sizeof(E) == 4;
  static constexpr int kRowBytes = kExtent * static_cast<int>(sizeof(E));

  bool along_k;
  int at[4];  // of each step of k; across: of each fragment; of floats across: below

  // The warp's x begin at first_x.
  __device__ Fragments(bool along, int first_x) : along_k(along) {
    const int lane = threadIdx.x % kWarp, q = lane / 8, r = lane % 8;
    const int x_part = kIsA ? q % 2 : q / 2, k_part = kIsA ? q / 2 : q % 2;
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (along) {
        at[j] = (first_x + x_part * 8 + r) * 128 + (((2 * j) ^ k_part ^ r) * 16);
      } else if (kFloats) {  // fragment j / 2 and x_part j % 2
        at[j] = t * kRowBytes +
                (first_x / 4 + ((4 * (j / 2) + 2 * (j % 2) + g / 4) ^ (2 * t))) * 16 + g % 4 * 4;
      } else {
        at[j] = (k_part * 8 + r) * kRowBytes + ((first_x / 8 + 2 * j + x_part) ^ r) * 16;
      }
    }
  }

  // Fragment i at 32 k bytes of k.
  __device__ void load(SharedAddress tile, int i, int k, uint32_t (&x)[4]) const {
    if (along_k) {
      load_matrices(tile + at[k] + i * (16 * 128), x);
    } else if constexpr (kFloats) {
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const int x_part = kIsA ? q % 2 : q / 2, k_part = kIsA ? q / 2 : q % 2;
        x[q] = load_shared(tile + at[i % 2 * 2 + x_part] + i / 2 * 128 +
                           (k * 8 + k_part * 4) * kRowBytes);
      }
    } else {
      load_transposed(tile + at[i] + k * 16 * kRowBytes, x);
    }
    if constexpr (kFloats) {
#pragma unroll
      for (int q = 0; q < 4; ++q) x[q] = round_tf32(x[q]);
    }
  }
};

// ---- the product ----

template <class C>
using TensorSums = float[C::kHeight][2 * C::kWidth][4];

template <class C>
__device__ inline void multiply_stage(const Fragments<typename C::Element, C::kRows, true>& a,
                                      const Fragments<typename C::Element, C::kCols, false>& b,
                                      SharedAddress stage, TensorSums<C>& sum) {
#pragma unroll
  for (int k = 0; k < C::kSteps; ++k) {
    uint32_t x[C::kHeight][4], y[C::kWidth][4];
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) a.load(stage, i, k, x[i]);
#pragma unroll
    for (int j = 0; j < C::kWidth; ++j) b.load(stage + C::kRows * 128, j, k, y[j]);
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
      for (int j = 0; j < C::kWidth; ++j) {
        multiply_add<typename C::Element>(sum[i][2 * j], x[i], y[j][0], y[j][1]);
        multiply_add<typename C::Element>(sum[i][2 * j + 1], x[i], y[j][2], y[j][3]);
      }
    }
  }
}

// sum = A @ B over `depth` of k. `shared` is free for other use afterwards.
template <class C, class A, class B>
__device__ inline void multiply_tensors(A& a, B& b, int64_t depth, void* shared,
                                        TensorSums<C>& sum) {
  const SharedAddress first = shared_address(shared);
  const int warp = threadIdx.x / kWarp;
  const Fragments<typename C::Element, C::kRows, true> rows(
      a.along_k(), warp / C::kColWarps * (C::kHeight * 16));
  const Fragments<typename C::Element, C::kCols, false> cols(
      b.along_k(), warp % C::kColWarps * (C::kWidth * 16));
  const int64_t steps = depth > 0 ? (depth + C::kDepth - 1) / C::kDepth : 0;
  const auto copy = [&](int64_t step, int slot) {
    const SharedAddress stage = first + slot * C::kStageBytes;
    if (step < steps) a.copy(stage), b.copy(stage + C::kRows * 128);
    end_copies();
  };
#pragma unroll
  for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
    for (int j = 0; j < 2 * C::kWidth; ++j) {
#pragma unroll
      for (int s = 0; s < 4; ++s) sum[i][j][s] = 0;
    }
  }
#pragma unroll 1
  for (int s = 0; s < C::kStages - 1; ++s) copy(s, s);
  int now = 0, next = C::kStages - 1;
#pragma unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    wait_copies<C::kStages - 2>();
    __syncthreads();  // the tiles are there, and nobody reads those that come next any more
    copy(step + C::kStages - 1, next);
    multiply_stage<C>(rows, cols, first + now * C::kStageBytes, sum);
    now = now + 1 == C::kStages ? 0 : now + 1;
    next = next + 1 == C::kStages ? 0 : next + 1;
  }
  wait_copies<0>();
  __syncthreads();
}

// ---- what becomes of the sums ----

// Shared memory of a kernel that multiplies and stores tiles of C.
template <class C>
size_t choose_tensor_width(Results& r) {
  constexpr size_t kPart = C::kPartBytes, kTile = C::kSharedBytes;
  constexpr size_t kMost = kTile > kMostShared ? kTile : kMostShared;
  r.width = 4;
  if (r.simple) return kTile;
  if (kPart + registers_bytes<float, 4>(r.e, C::kThreads) > kMost) r.width = 1;
  const size_t both = kPart + (r.width == 1 ? registers_bytes<float, 1>(r.e, C::kThreads)
                                            : registers_bytes<float, 4>(r.e, C::kThreads));
  return both > kTile ? both : kTile;
}

template <class C>
__device__ inline void put_part(const TensorSums<C>& sum, float* shared) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  float* to =
      shared + lane / 4 * C::kPartStep + warp % C::kColWarps * (C::kWidth * 16) + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
    for (int j = 0; j < 2 * C::kWidth; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        *reinterpret_cast<Pack<float, 2>*>(to + (i * 16 + half * 8) * C::kPartStep + j * 8) = {
            {sum[i][j][2 * half], sum[i][j][2 * half + 1]}};
    }
  }
}

template <class C>
__device__ inline void store_simple_part(const Results& r, const float* sums, int first_row,
                                         TileSpan tile) {
  constexpr int V = 4, kPacks = C::kCols / V;
  const Results::Place &y = r.place[0], &extra = r.place[r.extra];
#pragma unroll 4
  for (int i = threadIdx.x; i < C::kPartRows * kPacks; i += C::kThreads) {
    const int s = i / kPacks, c = i % kPacks * V;
    const int64_t row = tile.row + first_row + s, col = tile.col + c, left = tile.end - col;
    if (first_row + s >= tile.rows || left <= 0) continue;
    Pack<float, V> pack = *reinterpret_cast<const Pack<float, V>*>(sums + s * C::kPartStep + c);
    if (r.store != Store::plain) {
      const int64_t at = row * extra.stride[0] + col * extra.stride[kRowAxes];
      pack = finish_simple(r.store, pack, load_columns<float, V>(extra, at, left));
    }
    store_columns<float, V>(y, row * y.stride[0] + col * y.stride[kRowAxes], left, pack);
  }
}

// All threads of the block, after multiply_tensors().
template <class C>
__device__ inline void store_tensor_tile(const Results& r, const TensorSums<C>& sum, TileSpan tile,
                                         void* shared) {
  float* sums = static_cast<float*>(shared);
  void* registers = static_cast<char*>(shared) + C::kPartBytes;
#pragma unroll 1
  for (int part = 0; part < C::kWarpRows; ++part) {
    const int first = part * C::kPartRows;
    if (static_cast<int>(threadIdx.x) / kWarp / C::kColWarps == part) put_part<C>(sum, sums);
    __syncthreads();
    if (r.simple) {
      store_simple_part<C>(r, sums, first, tile);
    } else if (r.width == 1) {
      store_part<float, 1>(r, sums, C::kPartRows, C::kCols, C::kPartStep, C::kPartRows, 0, first,
                           tile, registers);
    } else {
      store_part<float, 4>(r, sums, C::kPartRows, C::kCols, C::kPartStep, C::kPartRows, 0, first,
                           tile, registers);
    }
    __syncthreads();
  }
}

}  // namespace dl::cuda
