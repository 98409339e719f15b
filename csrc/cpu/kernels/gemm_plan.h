// What a gemm call asks for and how it is cut: shapes and strides in, tile, blocks and parts out.
#pragma once

#include "cpu/kernels/expression.h"
#include "cpu/kernels/gemm_tile.h"
#include "kernel.h"

namespace dl::DL_LEVEL {

struct Product {
  Expression expression;
  bool has_expression;
  int n_out;
  DType dtype;

  // C (m x n) = A (m x k) @ B (k x n) for every index of the leading axes. When `swap`, this is the
  // transpose of what was asked: A is the caller's b transposed, and C the caller's out transposed.
  bool swap;
  int batch_axes;  // leading axes; the others are merged into the rows
  int row_axis;    // whose stride is the row stride of a, C and the extra inputs
  int64_t batches;
  const Tensor *a, *b;
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, c_row, c_col;

  // Epilogue applied in registers, and its operand (index in Call::tensors).
  Store store;
  int extra;
  bool evaluates;  // any other epilogue: the expression runs over blocks of sums
  bool direct;     // sums may be stored straight into C
  bool sums_in_c;  // between blocks of k the sums wait in C, else in scratch

  int height, width;  // of the register tile: rows, vectors
  bool pack_a, pack_b;
  bool copies;          // the first strip of rows packs B while it reads it in place
  bool by_panels;       // a panel of B stays in L1 while a block of A, in L2, passes by
  bool streams;         // rows of a large B come from memory for one row of A
  int64_t k_step;       // rows of B at a time
  int64_t group;        // columns of C at a time
  int64_t row_limit;    // rows of C at a time
  int64_t packed_rows;  // rows of A packed at a time

  int64_t batch_step, batch_parts, col_parts, row_parts;
  bool by_rows;  // parts of the same rows follow each other, else those of the same columns
};

// For a call that check_gemm (common/gemm.h) accepts.
void read_gemm(const Call& call, Product& p);
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Sums that an epilogue outside the registers visits at once: a block stays in L1. A single
// operation needs no room for what lies between two, and tall blocks read a panel of B less often.
constexpr int64_t kBlockSums = 2048, kSingleBlockSums = 6144;

inline int64_t block_sums(const Product& p) {
  return p.has_expression && p.expression.n_ops == 1 ? kSingleBlockSums : kBlockSums;
}

// Rows of such a block that is `padded` columns wide.
inline int64_t block_rows(const Product& p, int64_t padded) {
  return most(1, block_sums(p) / padded / p.height) * p.height;
}

// Vectors of the next register tile when `left` remain: the widest there is.
inline int tile_width(const Product& p, int64_t left) {
  if (left >= p.width) return p.width;
  return left < 4 ? static_cast<int>(left) : 4;
}

}  // namespace dl::DL_LEVEL
