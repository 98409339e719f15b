// Block copies between any two dtypes and layouts. Numbers are truncated when stored as integers;
// anything but 0 is true. Same-type copies move bits.
#include <type_traits>
#include <utility>

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
static void copy_tiled(int64_t rows, int64_t cols, D* out, int64_t out_row, int64_t out_col,
                       const S* in, int64_t in_row, int64_t in_col) {
  for (int64_t r0 = 0; r0 < rows; r0 += kTile)
    for (int64_t c0 = 0; c0 < cols; c0 += kTile) {
      const int64_t r1 = r0 + kTile < rows ? r0 + kTile : rows,
                    c1 = c0 + kTile < cols ? c0 + kTile : cols;
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c)
          out[r * out_row + c * out_col] = convert<D>(in[r * in_row + c * in_col]);
    }
}

// Transposing square blocks of 32-byte vectors: for d = 1, 2, .. swap the d x d blocks off the
// diagonal.
template <class T>
struct Square {
  static constexpr int N = 32 / sizeof(T);
  typedef T V __attribute__((vector_size(32)));

  template <int d, int... lane>
  static void swap(V& a, V& b, std::integer_sequence<int, lane...>) {
    const V low = __builtin_shufflevector(a, b, (lane & d ? N + lane - d : lane)...);
    b = __builtin_shufflevector(a, b, (lane & d ? N + lane : lane + d)...);
    a = low;
  }

  template <int d>
  static void step(V* v) {
    if constexpr (d < N) {
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i)
        if (!(i & d)) swap<d>(v[i], v[i + d], std::make_integer_sequence<int, N>());
      step<2 * d>(v);
    }
  }

  // out[r * out_row + c] = in[r + c * in_col] for r, c < N
  static void transpose(T* out, int64_t out_row, const T* in, int64_t in_col) {
    V v[N];
#pragma GCC unroll 8
    for (int c = 0; c < N; ++c) std::memcpy(&v[c], in + c * in_col, 32);
    step<1>(v);
#pragma GCC unroll 8
    for (int r = 0; r < N; ++r) std::memcpy(out + r * out_row, &v[r], 32);
  }
};

// Inner loop along the input, so that its lines are used up even where their stride maps them to
// one cache set.
template <class T>
static void copy_transposed(int64_t rows, int64_t cols, T* out, int64_t out_row, const T* in,
                            int64_t in_col) {
  constexpr int64_t N = Square<T>::N;
  const int64_t r1 = rows / N * N, c1 = cols / N * N;
  for (int64_t c = 0; c < c1; c += N)
    for (int64_t r = 0; r < r1; r += N)
      Square<T>::transpose(out + r * out_row + c, out_row, in + r + c * in_col, in_col);
  copy_tiled(r1, cols - c1, out + c1, out_row, 1, in + c1 * in_col, 1, in_col);
  copy_tiled(rows - r1, cols, out + r1 * out_row, out_row, 1, in + r1, 1, in_col);
}

template <class D, class S>
static void copy_rows(int64_t rows, int64_t cols, D* out, int64_t out_row, const S* in,
                      int64_t in_row) {
  for (int64_t r = 0; r < rows; ++r) {
    D* o = out + r * out_row;
    const S* i = in + r * in_row;
    for (int64_t c = 0; c < cols; ++c) o[c] = convert<D>(i[c]);
  }
}

// One element of each row, repeated along it
template <class D, class S>
static void copy_scalars(int64_t rows, int64_t cols, D* out, int64_t out_row, const S* in,
                         int64_t in_row) {
  for (int64_t r = 0; r < rows; ++r) {
    const D x = convert<D>(in[r * in_row]);
    D* o = out + r * out_row;
    for (int64_t c = 0; c < cols; ++c) o[c] = x;
  }
}

// One row, repeated: by doubling where rows follow each other, so that short rows do not cost a
// call each
template <class D, class S>
static void copy_repeated(int64_t rows, int64_t cols, D* out, int64_t out_row, const S* in,
                          int64_t in_col) {
  for (int64_t c = 0; c < cols; ++c) out[c] = convert<D>(in[c * in_col]);
  if (out_row == cols) {
    const int64_t all = rows * cols;
    for (int64_t n = cols; n < all; n *= 2)
      std::memcpy(out + n, out, (n < all - n ? n : all - n) * sizeof(D));
  } else {
    for (int64_t r = 1; r < rows; ++r) std::memcpy(out + r * out_row, out, cols * sizeof(D));
  }
}

template <class D, class S>
static void copy(int64_t rows, int64_t cols, const Operand& to, const Operand& from) {
  D* out = reinterpret_cast<D*>(to.data);
  const S* in = reinterpret_cast<const S*>(from.data);
  if (to.col_stride == 1 || cols == 1) {
    if (from.col_stride == 0)
      return copy_scalars(rows, cols, out, to.row_stride, in, from.row_stride);
    if (from.row_stride == 0 && rows > 1)
      return copy_repeated(rows, cols, out, to.row_stride, in, from.col_stride);
    if (from.col_stride == 1 || cols == 1) {
      const bool run = (to.row_stride == cols && from.row_stride == cols);
      return copy_rows(run ? 1 : rows, run ? rows * cols : cols, out, to.row_stride, in,
                       from.row_stride);
    }
  }
  if constexpr (std::is_same_v<S, D> && sizeof(D) >= 4)
    if (to.col_stride == 1 && from.row_stride == 1)
      return copy_transposed(rows, cols, out, to.row_stride, in, from.col_stride);
  copy_tiled(rows, cols, out, to.row_stride, to.col_stride, in, from.row_stride, from.col_stride);
}

using Copy = void (*)(int64_t, int64_t, const Operand&, const Operand&);

#define DL_FROM(D)                                       \
  {copy<D, float>,   copy<D, double>,  copy<D, int32_t>, \
   copy<D, int64_t>, copy<D, uint8_t>, copy<D, Bool>}
static constexpr Copy kCopies[6][6] = {DL_FROM(float),   DL_FROM(double),  DL_FROM(int32_t),
                                       DL_FROM(int64_t), DL_FROM(uint8_t), DL_FROM(Bool)};

void copy_block(int64_t rows, int64_t cols, const Operand& out, const Operand& in) {
  kCopies[int(out.dtype)][int(in.dtype)](rows, cols, out, in);
}

}  // namespace dl::DL_LEVEL
