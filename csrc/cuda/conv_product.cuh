// A convolution, or a gradient of one, as a product of gathered matrices for each group.
#pragma once

#include "cuda/conv.cuh"

namespace dl::cuda {

struct ConvProduct {
  Gathered a, b;
  int64_t rows, cols, depth, part_depth;  // of one group
  int64_t a_group, b_group;               // elements from group to group
  int groups, parts, tile_rows, tile_cols;
  bool tensor;  // on tensor cores
};
static_assert(sizeof(ConvProduct) + sizeof(Results) <= 8192);

// Where a block's tile of C's shape lies.
struct ConvTile {
  int group, part;
  int64_t row, col;

  template <class C>
  static __device__ ConvTile of(const ConvProduct& c) {
    ConvTile t;
    unsigned id = blockIdx.x;
    t.col = int64_t{id % c.tile_cols} * C::kCols;
    id /= c.tile_cols;
    t.row = int64_t{id % c.tile_rows} * C::kRows;
    id /= c.tile_rows;
    t.group = static_cast<int>(id % c.groups), t.part = static_cast<int>(id / c.groups);
    return t;
  }
  template <class C>
  __device__ TileSpan span(const ConvProduct& c) const {
    return {part * c.rows + row, group * c.cols + col, (group + 1) * c.cols,
            static_cast<int>(min(c.rows - row, int64_t{C::kRows}))};
  }
};

// Neighbours along the digit that counts fastest lie side by side, in whole aligned packs.
inline bool loads_whole(const Gathered& g, const IndexMap& run, const IndexMap& other,
                        int64_t vector) {
  bool fits = run.other_fastest && run.other_stride == 1 && run.other.divisor % vector == 0 &&
              other.other_stride % vector == 0 && reinterpret_cast<uintptr_t>(g.data) % 16 == 0;
  for (int d = 0; d < 3; ++d) fits &= run.stride[d] % vector == 0 && other.stride[d] % vector == 0;
  return fits;
}

template <class T>
inline void choose_loads(Gathered& g, int64_t group) {
  constexpr int64_t V = 16 / sizeof(T);
  const bool aligned = group % V == 0;
  g.along_k = true;
  g.whole = aligned && loads_whole(g, g.k, g.x, V);
  if (g.whole) return;
  g.along_k = false;
  g.whole = aligned && loads_whole(g, g.x, g.k, V);
  if (!g.whole) g.along_k = magnitude(g.k.other_stride) == 1 && g.k.other_fastest && g.extent > 1;
}

inline int64_t tiles_of(const ConvProduct& c, int64_t side) {
  return ceil_div(c.rows, side) * ceil_div(c.cols, side) * c.groups;
}

// The blocks of a launch with tiles of C's shape; 0 if there are too many.
template <class C>
unsigned set_tiles(ConvProduct& c) {
  c.tile_rows = static_cast<int>(ceil_div(c.rows, C::kRows));
  c.tile_cols = static_cast<int>(ceil_div(c.cols, C::kCols));
  const int64_t blocks = int64_t{c.tile_rows} * c.tile_cols * c.groups * c.parts;
  return blocks < int64_t{1} << 31 ? static_cast<unsigned>(blocks) : 0;
}

// conv_tensor.cu: operands of halves, or of floats as tf32.
cudaError_t launch_tensor_conv(DType dtype, ConvProduct& c, const Results& r, cudaStream_t stream);

}  // namespace dl::cuda
