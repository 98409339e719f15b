// The register tile of convolutions: C[i, :] (+)= sum over k: A[row[i] + col[k]] * B[k, :].
//
// The sum of offsets says everything about a convolution. Forward, rows are output pixels and k
// runs over filter elements; in the filter gradient rows are filter elements and k runs over
// pixels. With both in tables, stride, dilation, padding and dimensions cost nothing, nothing is
// unrolled into columns, and tiles are full whatever the shape. One load of an offset serves all
// rows of the tile.
//
// Every element of C is one chain of fused multiply-adds in the order of k.
#pragma once

#include "cpu/kernels/gemm_tile.h"

namespace dl::DL_LEVEL {

template <class T>
struct SumTile {
  int64_t strips;  // of h rows, one behind the other
  const T* a;
  const int64_t *row, *col;
  int64_t k;
  const T* b;  // whole vectors
  int64_t b_row;
  const T* start;  // sums to continue, or null
  int64_t start_row;
  T* c;
  const int64_t* c_at;
  Store store;
  const T* extra;  // bias, or y of relu_grad
  const int64_t* extra_at;
};

// A pointer for each row must fit the general registers, beside those of col, b and k.
constexpr int kMostRows = 12;

constexpr int sum_height(int nv) { return max_height(nv) < kMostRows ? max_height(nv) : kMostRows; }

// Tiles of so many rows take several strips a call, which with few products would take longer than
// they do; for more there are no registers.
constexpr int kStripRows = 6;

template <class T>
using SumFunction = void (*)(const SumTile<T>&);

// The tile of h rows and nv vectors; nv <= 3, or 4 with 16 registers and not kWide, and
// h <= sum_height(nv); one strip where h > kStripRows. kWide: every column has an A of its own,
// next to its neighbour's (depthwise convolution, groups of few columns).
template <class T, bool kWide>
SumFunction<T> find_sum(int nv, int h);

// The tile for few columns: lanes are products instead, and a sum is the sum of its lanes in the
// end. Each k is a run of neighbours in A, of which B has a vector for each vector and column,
// b_row elements in all; C has no vectors. nc <= 4 and h <= dot_height(nc).
template <class T>
SumFunction<T> find_dot(int nc, int h);

constexpr int kMostDots = 4;

constexpr int dot_height(int nc) {
  constexpr int few[] = {0, 12, 6, 4, 2}, many[] = {0, 12, 12, 8, 6};
  return kVectorRegisters == 32 ? many[nc] : few[nc];
}

}  // namespace dl::DL_LEVEL
