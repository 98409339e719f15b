// Pointwise expressions: a short list of vector operations, evaluated a cache-sized block at a
// time. One machinery serves stand-alone elementwise programs, the prologue of reductions and the
// epilogue of gemm.
//
//   ints = [compute (0 = f32, 1 = f64), n_out, n_in, n_const, n_temp, n_ops,
//           per operation: opcode, destination ids, source ids,  then n_out result ids];   floats =
//           the constants
// Value ids: inputs 0..n_in-1, then constants, then temporaries. A destination is a temporary and
// may equal a source of the same operation. A result may name any value.
#pragma once

#include "cpu/simd.h"
#include "kernel.h"

namespace dl::DL_LEVEL {

constexpr int kMaxValues =
    64;  // inputs + constants + temporaries of one expression: sets of values are 64-bit masks
constexpr int kMaxOutputs = 8;

struct Expression {
  int compute, n_out, n_in, n_const, n_temp, n_ops;
  const int64_t* code;
  const double* constants;
  const int64_t* results;

  // What decode finds out for evaluate.
  uint64_t read;                     // inputs that operations read
  uint64_t read_after[kMaxOutputs];  // inputs read after the operation that makes this result, or
                                     // named as results
  int made_by[kMaxOutputs];          // that operation, or -1
  int n_spare;                       // registers for scalars spread out

  int values() const { return n_in + n_const + n_temp; }
};

// nullptr, or what is wrong. Checks every id and opcode, so that evaluation is memory-safe.
const char* decode(const int64_t* ints, int n_ints, const double* floats, int n_floats,
                   Expression& e);

// Arithmetic per element, a transcendental function counted as 20.
double cost(const Expression&);

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
