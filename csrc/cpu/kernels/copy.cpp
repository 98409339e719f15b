// Block copies between any two dtypes and layouts. Numbers are truncated when stored as integers; anything but 0 is
// true. Same-type copies move bits.
#include <type_traits>

#include "cpu/kernels/expression.h"

namespace dl::DL_LEVEL {

struct Bool {
  uint8_t value;
};

template <class D, class S>
inline D convert(S x) {
  if constexpr (sizeof(S) == sizeof(D) && std::is_same_v<S, D>)
    return x;
  else if constexpr (std::is_same_v<S, Bool>)
    return D(x.value != 0);
  else if constexpr (std::is_same_v<D, Bool>)
    return {uint8_t(x != 0)};
  else if constexpr (std::is_floating_point_v<S> && std::is_same_v<D, uint8_t>)
    return D(int32_t(x));
  else
    return D(x);
}

// Out-of-order strides: square tiles, so that each cache line touched is used while it is there.
constexpr int64_t kTile = 16;

template <class D, class S>
static void copy_tiled(int64_t rows, int64_t cols, D* out, int64_t out_row, int64_t out_col, const S* in, int64_t in_row,
                       int64_t in_col) {
  for (int64_t r0 = 0; r0 < rows; r0 += kTile)
    for (int64_t c0 = 0; c0 < cols; c0 += kTile) {
      const int64_t r1 = r0 + kTile < rows ? r0 + kTile : rows, c1 = c0 + kTile < cols ? c0 + kTile : cols;
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) out[r * out_row + c * out_col] = convert<D>(in[r * in_row + c * in_col]);
    }
}

template <class D, class S>
static void copy_rows(int64_t rows, int64_t cols, D* out, int64_t out_row, const S* in, int64_t in_row) {
  for (int64_t r = 0; r < rows; ++r) {
    D* o = out + r * out_row;
    const S* i = in + r * in_row;
    for (int64_t c = 0; c < cols; ++c) o[c] = convert<D>(i[c]);
  }
}

// One row, or one element of each row, repeated
template <class D, class S>
static void copy_repeated(int64_t rows, int64_t cols, D* out, int64_t out_row, const S* in, int64_t in_row,
                          int64_t in_col) {
  for (int64_t r = 0; r < rows; ++r) {
    D* o = out + r * out_row;
    if (in_col == 0) {
      const D x = convert<D>(in[r * in_row]);
      for (int64_t c = 0; c < cols; ++c) o[c] = x;
    } else if (r == 0) {
      for (int64_t c = 0; c < cols; ++c) o[c] = convert<D>(in[c * in_col]);
    } else {
      std::memcpy(o, out, cols * sizeof(D));
    }
  }
}

template <class D, class S>
static void copy(int64_t rows, int64_t cols, const Operand& to, const Operand& from) {
  D* out = reinterpret_cast<D*>(to.data);
  const S* in = reinterpret_cast<const S*>(from.data);
  if (to.col_stride == 1 || cols == 1) {
    if (from.col_stride == 0 || (from.row_stride == 0 && rows > 1))
      return copy_repeated(rows, cols, out, to.row_stride, in, from.row_stride, from.col_stride);
    if (from.col_stride == 1 || cols == 1) {
      const bool run = (to.row_stride == cols && from.row_stride == cols);
      return copy_rows(run ? 1 : rows, run ? rows * cols : cols, out, to.row_stride, in, from.row_stride);
    }
  }
  copy_tiled(rows, cols, out, to.row_stride, to.col_stride, in, from.row_stride, from.col_stride);
}

using Copy = void (*)(int64_t, int64_t, const Operand&, const Operand&);

#define DL_FROM(D) {copy<D, float>, copy<D, double>, copy<D, int32_t>, copy<D, int64_t>, copy<D, uint8_t>, copy<D, Bool>}
static constexpr Copy kCopies[6][6] = {DL_FROM(float),   DL_FROM(double),  DL_FROM(int32_t),
                                       DL_FROM(int64_t), DL_FROM(uint8_t), DL_FROM(Bool)};

void copy_block(int64_t rows, int64_t cols, const Operand& out, const Operand& in) {
  kCopies[int(out.dtype)][int(in.dtype)](rows, cols, out, in);
}

}  // namespace dl::DL_LEVEL
