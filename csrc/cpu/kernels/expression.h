// Evaluates pointwise expressions (common/expression.h), a cache-sized block at a time. One
// machinery serves stand-alone elementwise programs, the prologue of reductions and the epilogue of
// gemm.
#pragma once

#include "common/expression.h"
#include "cpu/simd.h"
#include "kernel.h"

namespace dl::DL_LEVEL {

// A rows x cols view of one operand; strides in elements, 0 broadcasts.
struct Operand {
  char* data;
  DType dtype;
  int64_t row_stride, col_stride;
};

// Elements of T that evaluation needs as registers, for blocks of up to rows x cols.
template <class T>
int64_t register_elements(const Expression&, int64_t rows, int64_t cols);

// Fills the constants; once per thread and call, before blocks of up to rows x cols.
template <class T>
void prepare(const Expression&, int64_t rows, int64_t cols, T* registers);

// out[i] = expression(in...) over a block no larger than prepared for. Inputs are converted to T
// when loaded; stores to b8 test against 0, stores to integers truncate. Operands of dtype T with
// col_stride 1 are used in place; an output may alias an input exactly (same data and strides), not
// otherwise overlap one.
template <class T>
void evaluate(const Expression&, int64_t rows, int64_t cols, const Operand* out, const Operand* in,
              T* registers);

// Element (r, c) is data[r * row_stride + c * col_stride]; col_stride is 0 or 1.
template <class T>
struct View {
  const T* data;
  int64_t row_stride, col_stride;
};

// The first result where it lies, in a register or an input: nothing is stored.
template <class T>
View<T> evaluate_view(const Expression&, int64_t rows, int64_t cols, const Operand* in,
                      T* registers);

// Copies a block, converting. Transposed blocks go through registers.
void copy_block(int64_t rows, int64_t cols, const Operand& out, const Operand& in);

}  // namespace dl::DL_LEVEL
