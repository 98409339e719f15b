// The tile core of every product: a block of threads sums C (rows x columns) = A @ B over k.
//
//   for each kDepth of k            tiles of A and B in shared memory, two of each: the next ones
//     for each k of it              travel through registers while these are multiplied
//       sum[i][j] += a[i] b[j]      a and b by 16-byte reads that no two lanes dispute
//
// Both tiles lie with k outermost. A warp's lanes are 4 x 8; the bits of a lane's number are spread
// so that lanes i and i ^ 1 share what they read of A, and lanes i and i ^ 2, up to order, what
// they read of B: then half a warp's 16-byte reads are served at once. A thread's rows and columns
// are quads, 4 lanes of rows or 8 of columns apart.
//
// Every element of C is one chain over k, in order, whatever the tile: a row of a batch has the
// bits of that row alone.
#pragma once

#include "cuda/expression.cuh"

namespace dl::cuda {

// Warps across rows and columns; rows, columns of a thread; k of a step.
template <class T, int kWarpRows, int kWarpCols, int kThreadRows, int kThreadCols, int kStep>
struct Tile {
  using Type = T;
  static constexpr int kVector = 16 / sizeof(T), kColWarps = kWarpCols;
  static constexpr int kWarps = kWarpRows * kWarpCols, kThreads = kWarps * kWarp;
  static constexpr int kHeight = kThreadRows, kWidth = kThreadCols, kDepth = kStep;
  static constexpr int kRows = kWarpRows * 4 * kHeight, kCols = kWarpCols * 8 * kWidth;
  static constexpr int kRun = kHeight < kVector ? kHeight : kVector;  // neighbouring rows
  // The padding puts the scattered stores of a transposed tile into different banks.
  static constexpr int kRowStep = kRows + kVector, kColStep = kCols + kVector;
  static constexpr int kStageElements = kDepth * (kRowStep + kColStep);
  static constexpr int kSharedBytes = 2 * kStageElements * static_cast<int>(sizeof(T));
  static_assert(kWidth % kVector == 0 && kHeight % kRun == 0);

  // Where this thread's row i and quad of columns j lie in the tile.
  __device__ static int row(int i) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int quad = (lane >> 3 & 2) | (lane & 1);
    return warp / kWarpCols * (4 * kHeight) + (i / kRun * 4 + quad) * kRun + i % kRun;
  }
  __device__ static int col(int j) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    return warp % kWarpCols * (8 * kWidth) + (j * 8 + (lane >> 1 & 7)) * kVector;
  }
};

template <class T>
using LargeTile = Tile<T, 4, 2, 8, 8, 16>;  // 128 x 128
template <class T>
using MiddleTile = Tile<T, 2, 2, 8, 4, 16>;  // 64 x 64
template <class T>
using SmallTile = Tile<T, 4, 1, 2, 4, 32>;  // 32 x 32: many blocks, few steps

template <class T, int N, class E>
__device__ inline void read_run(const E* from, T* to) {
  *reinterpret_cast<Pack<T, N>*>(to) = load_stored<N>(from);
}

// ---- how a tile of an operand is filled ----

// The units of kVector elements that a thread moves. Along k, half a warp's 16 rows and 2 units of
// each are 32 bytes a row; across, a warp reads whole rows of k.
template <class C, int kExtent>
struct Units {
  static constexpr int V = C::kVector, kCount = kExtent * C::kDepth / C::kThreads / V;
  static constexpr int kGroups = kExtent / 16, kRowsOfK = C::kThreads * V / kExtent;
  static_assert(kExtent % 16 == 0 && C::kWarps % kGroups == 0 && C::kDepth % kRowsOfK == 0);

  int x, k, k_step;  // of unit 0; units differ in k alone

  __device__ explicit Units(bool along_k) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    x = along_k ? warp % kGroups * 16 + lane / 2 : threadIdx.x % (kExtent / V) * V;
    k = along_k ? (lane % 2 + warp / kGroups * 2) * V : threadIdx.x / (kExtent / V);
    k_step = along_k ? C::kWarps / kGroups * 2 * V : kRowsOfK;
  }
};

template <class C, int kExtent>
__device__ inline void put_units(const Units<C, kExtent>& u, bool along_k, int step,
                                 const typename C::Type (&r)[kExtent * C::kDepth / C::kThreads],
                                 typename C::Type* shared) {
  using T = typename C::Type;
  constexpr int V = C::kVector, N = Units<C, kExtent>::kCount;
  T* to = shared + u.k * step + u.x;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (along_k) {
#pragma unroll
      for (int v = 0; v < V; ++v) to[(i * u.k_step + v) * step] = r[i * V + v];
    } else {
      *reinterpret_cast<Pack<T, V>*>(to + i * u.k_step * step) =
          *reinterpret_cast<const Pack<T, V>*>(r + i * V);
    }
  }
}

// A matrix in memory: x (rows of A, columns of B) by k. `along_k`: neighbours in k are loaded by
// one thread; `whole`: in packs of kVector, which needs stride 1 there and alignment.
struct Matrix {
  const char* data;
  int64_t x_stride, k_stride, extent;  // extent of x
  bool along_k, whole;
};

// kForm: what is known of `along_k` when compiled. Known: 16-byte loads too. Unknown: any strides.
enum class Form { along_k, across, any };

// E: how the elements are stored.
template <class C, int kExtent, Form kForm, class E = typename C::Type>
class MatrixLoader {
  using T = typename C::Type;
  static constexpr int V = C::kVector, N = Units<C, kExtent>::kCount;

 public:
  static constexpr int kStep = kExtent + V;

  __device__ MatrixLoader(const Matrix& m, int64_t offset, int64_t first_x, int64_t first_k)
      : m_(m), units_(along_k()) {
    const int64_t x = first_x + units_.x;
    const int64_t last = m.extent - (whole() && !along_k() ? V : 1);  // others are not used
    x_ = x < last ? x : last;
    from_ = reinterpret_cast<const E*>(m.data) + offset + x_ * m.x_stride +
            (first_k + units_.k) * m.k_stride;
  }

  // The next `valid` of k, at most kDepth; the rest is 0.
  __device__ void fetch(int valid) {
    if (valid == C::kDepth) {
      fetch_units<false>(valid);
    } else {
      fetch_units<true>(valid);
    }
    from_ += valid * m_.k_stride;
  }
  __device__ void put(T* shared) { put_units<C, kExtent>(units_, along_k(), kStep, r_, shared); }

 private:
  __device__ bool along_k() const {
    return kForm == Form::any ? m_.along_k : kForm == Form::along_k;
  }
  __device__ bool whole() const { return kForm != Form::any || m_.whole; }

  template <bool kPartial>
  __device__ void fetch_units(int valid) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int k = i * units_.k_step;
      const E* from = from_ + k * m_.k_stride;
      const bool inside = !kPartial || units_.k + k < valid;
      if (whole()) {
        if (inside) {
          read_run<T, V>(from, r_ + i * V);
        } else {
#pragma unroll
          for (int v = 0; v < V; ++v) r_[i * V + v] = T(0);
        }
      } else {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const bool here = along_k() ? !kPartial || units_.k + k + v < valid : inside;
          const int64_t at = along_k() ? v * m_.k_stride : across(v);
          r_[i * V + v] = here ? static_cast<T>(from[at]) : T(0);
        }
      }
    }
  }

  __device__ int64_t across(int v) const {
    return x_ + v < m_.extent ? v * m_.x_stride : (m_.extent - 1 - x_) * m_.x_stride;
  }

  const Matrix& m_;
  const Units<C, kExtent> units_;
  int64_t x_;
  const E* from_;
  alignas(16) T r_[N * V];
};

// ---- the product ----

template <class C>
__device__ inline void multiply_stage(const typename C::Type* a, const typename C::Type* b,
                                      typename C::Type (&sum)[C::kHeight][C::kWidth]) {
  using T = typename C::Type;
  constexpr int V = C::kVector;
#pragma unroll
  for (int k = 0; k < C::kDepth; ++k) {
    alignas(16) T x[C::kHeight];
    alignas(16) T y[C::kWidth];
#pragma unroll
    for (int i = 0; i < C::kHeight; i += C::kRun)
      read_run<T, C::kRun>(a + k * C::kRowStep + i * 4, x + i);
#pragma unroll
    for (int j = 0; j < C::kWidth; j += V) read_run<T, V>(b + k * C::kColStep + j * 8, y + j);
#pragma unroll
    for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
      for (int j = 0; j < C::kWidth; ++j) sum[i][j] += x[i] * y[j];
    }
  }
}

// sum += A @ B over `depth` of k. `shared` is free for other use afterwards.
template <class C, class A, class B>
__device__ inline void multiply(A& a, B& b, int64_t depth, typename C::Type* shared,
                                typename C::Type (&sum)[C::kHeight][C::kWidth]) {
  using T = typename C::Type;
  if (depth <= 0) return;
  const int rest = static_cast<int>(depth % C::kDepth);
  int64_t left = (depth - 1) / C::kDepth;
  T *now = shared, *next = shared + C::kStageElements;
  a.fetch(rest ? rest : C::kDepth), b.fetch(rest ? rest : C::kDepth);
  a.put(now), b.put(now + C::kDepth * C::kRowStep);
  __syncthreads();
  const int row = C::row(0), col = C::kDepth * C::kRowStep + C::col(0);
  for (;; --left) {
    if (left > 0) a.fetch(C::kDepth), b.fetch(C::kDepth);
    multiply_stage<C>(now + row, now + col, sum);
    if (left == 0) break;
    a.put(next), b.put(next + C::kDepth * C::kRowStep);
    __syncthreads();
    T* other = now;
    now = next, next = other;
  }
  __syncthreads();
}

template <class C>
__device__ inline void clear(typename C::Type (&sum)[C::kHeight][C::kWidth]) {
#pragma unroll
  for (int i = 0; i < C::kHeight; ++i) {
#pragma unroll
    for (int j = 0; j < C::kWidth; ++j) sum[i][j] = typename C::Type(0);
  }
}

}  // namespace dl::cuda
