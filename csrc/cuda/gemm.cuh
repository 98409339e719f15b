// A product of matrices as the kernels of gemm take it: which tile a block makes, and from where.
#pragma once

#include "cuda/results.cuh"

namespace dl::cuda {

constexpr int kBatchAxes = 4;
constexpr int64_t kMostBlocks = int64_t{1} << 31;
constexpr int kBandTiles = 8;

struct Gemm {
  Matrix a, b;
  int64_t m, n, k, part_k;  // part_k: of a part of k
  int parts, tile_rows, tile_cols;
  int batch_axes;
  int64_t batch[kBatchAxes], a_batch[kBatchAxes], b_batch[kBatchAxes];
};

static_assert(sizeof(Gemm) + sizeof(Results) <= 8192);  // arguments of a kernel

struct GemmPlan {
  Gemm g;
  Results r;
  int64_t batches;
  bool tf32;  // floats go through tensor cores
};

struct TilePlace {
  int64_t batch, a_offset, b_offset;
  int part, row, col;  // in tiles
};

template <int kHeight = kBandTiles>
__device__ inline TilePlace place_of(const Gemm& g, unsigned block) {
  const unsigned tiles = g.tile_rows * g.tile_cols, band = kHeight * g.tile_cols;
  unsigned id = block % tiles, outer = block / tiles;
  TilePlace p{};
  const int first = static_cast<int>(id / band) * kHeight;
  const int height = min(kHeight, g.tile_rows - first);
  id %= band;
  p.row = first + static_cast<int>(id) % height;
  p.col = static_cast<int>(id) / height;
  p.part = static_cast<int>(outer % g.parts);
  outer /= g.parts;
  p.batch = outer;
#pragma unroll
  for (int d = kBatchAxes - 1; d >= 0; --d) {
    if (d >= g.batch_axes) continue;
    const int64_t i = outer % g.batch[d];
    outer /= g.batch[d];
    p.a_offset += i * g.a_batch[d];
    p.b_offset += i * g.b_batch[d];
  }
  return p;
}

// The results of the tile of C's shape at p.
template <class C>
__device__ inline TileSpan span_of(const Gemm& g, const TilePlace& p, int64_t batches) {
  const int64_t row = int64_t{p.row} * C::kRows;
  return {(p.part * batches + p.batch) * g.m + row, int64_t{p.col} * C::kCols, g.n,
          static_cast<int>(min(g.m - row, int64_t{C::kRows}))};
}
template <class C>  // a block for each tile
__device__ inline TileSpan span_of(const Gemm& g, const TilePlace& p) {
  return span_of<C>(g, p, gridDim.x / (unsigned(g.parts) * g.tile_rows * g.tile_cols));
}

inline int64_t tiles_of(const GemmPlan& p, int64_t rows, int64_t cols) {
  return ceil_div(p.g.m, rows) * ceil_div(p.g.n, cols) * p.batches;
}

// The blocks of a launch with tiles of C's shape.
template <class C>
unsigned set_tiles(const GemmPlan& p, Gemm& g) {
  g.tile_rows = static_cast<int>(ceil_div(g.m, C::kRows));
  g.tile_cols = static_cast<int>(ceil_div(g.n, C::kCols));
  return static_cast<unsigned>(p.batches * g.parts * g.tile_rows * g.tile_cols);
}

// On tensor cores (gemm_tensor.cu): operands of halves, or of floats as tf32.
cudaError_t launch_tensor_gemm(DType dtype, const GemmPlan& p, const Results& r,
                               cudaStream_t stream);

// On those of Hopper (gemm_hopper.cu, in builds for it). False: not this product, or not this GPU.
__attribute__((weak)) bool start_hopper_gemm(DType dtype, const GemmPlan& p, const Results& r,
                                             cudaStream_t stream, cudaError_t& error);

}  // namespace dl::cuda
