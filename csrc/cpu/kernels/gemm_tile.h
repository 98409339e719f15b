// The register tile of gemm: C (h x w) = or += A (h x k) @ B (k x w), with w whole vectors.
//
// Every element of C is one chain of fused multiply-adds in the order of k, whatever the tile's
// shape, so no cut of the work changes a bit. Both strides of A are run-time values: elements of A
// are broadcast one by one, so a transposed A is as good as a plain one, and a packed A is only
// another pair of strides.
#pragma once

#include "common/epilogue.h"
#include "cpu/simd.h"

namespace dl::DL_LEVEL {

template <class T>
struct Tile {
  const T* a;
  int64_t a_row, a_col;
  // B in two runs of rows: in place, then a padded copy of the rows whose last vector would reach
  // past the matrix.
  const T* b[2];
  int64_t b_row[2];
  int64_t k[2];
  T* c;
  int64_t c_row;
  bool accumulate;  // continue the chains in C
  Store store;
  const T* extra;  // bias (w), or y (h x w) of relu_grad
  int64_t extra_row;
  T* packed = nullptr;  // B's panel, which this tile copies while it reads it in place
};

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif

// Tallest tile of nv vectors: h * nv accumulators + a row of B + one broadcast fit the registers,
// and at least 8 chains hide the latency of the multiply-adders.
constexpr int max_height(int nv) {
  constexpr int few[] = {0, 12, 6, 4, 3, 0, 0, 0, 1};
  constexpr int many[] = {0, 14, 14, 8, 6, 0, 0, 0, 3};
  return kVectorRegisters == 32 ? many[nv] : few[nv];
}

constexpr int kTallest = 14;

// `size` rows or columns in strips of nearly equal extent: the first ones are one longer.
struct EvenStrips {
  int64_t count, least, longer;

  EvenStrips(int64_t size, int64_t most)
      : count((size + most - 1) / most),
        least(count ? size / count : 0),
        longer(size - count * least) {}
  int64_t start(int64_t s) const { return s * least + (s < longer ? s : longer); }
  int64_t extent(int64_t s) const { return least + (s < longer); }
};

template <class T>
using TileFunction = void (*)(const Tile<T>&);

// The tile of h rows and nv vectors; nv is 1, 2, 3, 4 or 8 and h <= max_height(nv).
template <class T>
TileFunction<T> find_tile(int nv, int h);

// The same, that copies its panel of B; nv is 2 or 4.
template <class T>
TileFunction<T> find_packing_tile(int nv, int h);

// One row of C, of `columns` whole vectors, by kStreamRows rows of B that come from memory: all of
// them at once, without the pauses between tiles.
constexpr int kStreamRows = 8;
template <class T>
void stream_row(const Tile<T>& t, int64_t columns);

}  // namespace dl::DL_LEVEL
