// Moving pieces of matrices between their own layout and the layout a register tile reads or
// writes.
#pragma once

#include "cpu/kernels/gemm_tile.h"
#include "cpu/simd.h"

namespace dl::DL_LEVEL {

// Transposes go through 4 x 4 (float) or 2 x 2 (double) blocks of 16-byte vectors: every
// instruction set has them and their two shuffles a vector, and the cache, not the shuffles, is the
// limit.
template <class T>
struct Quad {
  static constexpr int kSize = 16 / sizeof(T);
  typedef T type __attribute__((vector_size(16)));
};

#if defined(__clang__) || __GNUC__ >= 12
#define DL_SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DL_SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, type{__VA_ARGS__})
#endif

inline void transpose_block(const float* x, int64_t x_row, float* y, int64_t y_row) {
  using V = Quad<float>::type;
  [[maybe_unused]] typedef int32_t I __attribute__((vector_size(16)));
  V a, b, c, d;
  std::memcpy(&a, x, 16);
  std::memcpy(&b, x + x_row, 16);
  std::memcpy(&c, x + 2 * x_row, 16);
  std::memcpy(&d, x + 3 * x_row, 16);
  const V e = DL_SHUFFLE(I, a, b, 0, 4, 1, 5), f = DL_SHUFFLE(I, c, d, 0, 4, 1, 5);
  const V g = DL_SHUFFLE(I, a, b, 2, 6, 3, 7), h = DL_SHUFFLE(I, c, d, 2, 6, 3, 7);
  a = DL_SHUFFLE(I, e, f, 0, 1, 4, 5);
  b = DL_SHUFFLE(I, e, f, 2, 3, 6, 7);
  c = DL_SHUFFLE(I, g, h, 0, 1, 4, 5);
  d = DL_SHUFFLE(I, g, h, 2, 3, 6, 7);
  std::memcpy(y, &a, 16);
  std::memcpy(y + y_row, &b, 16);
  std::memcpy(y + 2 * y_row, &c, 16);
  std::memcpy(y + 3 * y_row, &d, 16);
}

inline void transpose_block(const double* x, int64_t x_row, double* y, int64_t y_row) {
  using V = Quad<double>::type;
  [[maybe_unused]] typedef int64_t I __attribute__((vector_size(16)));
  V a, b;
  std::memcpy(&a, x, 16);
  std::memcpy(&b, x + x_row, 16);
  const V c = DL_SHUFFLE(I, a, b, 0, 2), d = DL_SHUFFLE(I, a, b, 1, 3);
  std::memcpy(y, &c, 16);
  std::memcpy(y + y_row, &d, 16);
}
#undef DL_SHUFFLE

// y (cols x rows) = x (rows x cols) transposed; both have unit column stride. The last blocks
// overlap the ones before.
template <class T>
void transpose(const T* x, int64_t x_row, int64_t rows, int64_t cols, T* y, int64_t y_row) {
  constexpr int64_t Q = Quad<T>::kSize;
  constexpr int64_t kRun =
      64;  // columns of x at a time, so that the lines of y stay in L1 until they are full
  if (rows < Q || cols < Q) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) y[j * y_row + i] = x[i * x_row + j];
    }
    return;
  }
  for (int64_t j0 = 0; j0 < cols; j0 += kRun) {
    const int64_t j1 = j0 + kRun < cols ? j0 + kRun : cols;
    for (int64_t r = 0; r < rows; r += Q) {
      const int64_t i = r + Q <= rows ? r : rows - Q;
      int64_t j = j0;
      for (; j + Q <= j1; j += Q)
        transpose_block(x + i * x_row + j, x_row, y + j * y_row + i, y_row);
      if (j < j1)
        transpose_block(x + i * x_row + cols - Q, x_row, y + (cols - Q) * y_row + i, y_row);
    }
  }
}

// The first n elements of a run; a call of memcpy would cost more than the copy.
template <class T>
inline void copy_run(T* y, const T* x, int64_t n) {
  constexpr int64_t L = kLanes<T>, Q = Quad<T>::kSize;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(y + i, load(x + i));
  for (; i + Q <= n; i += Q) std::memcpy(y + i, x + i, 16);
  if (i < n && n >= Q) {
    std::memcpy(y + n - Q, x + n - Q, 16);
  } else {
    for (; i < n; ++i) y[i] = x[i];
  }
}

// y (rows x cols, unit column stride) = x of any strides.
template <class T>
void gather_block(const T* x, int64_t x_row, int64_t x_col, int64_t rows, int64_t cols, T* y,
                  int64_t y_row) {
  if (x_col == 1) {
    for (int64_t i = 0; i < rows; ++i) copy_run(y + i * y_row, x + i * x_row, cols);
  } else if (x_row == 1) {
    transpose(x, x_col, cols, rows, y, y_row);
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) y[i * y_row + j] = x[i * x_row + j * x_col];
    }
  }
}

// y of any strides = x (rows x cols, unit column stride).
template <class T>
void scatter_block(const T* x, int64_t x_row, int64_t rows, int64_t cols, T* y, int64_t y_row,
                   int64_t y_col) {
  if (y_col == 1) {
    for (int64_t i = 0; i < rows; ++i) copy_run(y + i * y_row, x + i * x_row, cols);
  } else if (y_row == 1) {
    transpose(x, x_row, rows, cols, y, y_col);
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) y[i * y_row + j * y_col] = x[i * x_row + j];
    }
  }
}

// Rows that are copied from a matrix at a time. Those of the next run are fetched meanwhile, as a
// long matrix comes from memory: into L2, for far rows share few sets of L1.
constexpr int64_t kRunRows = 16;

// Rows of NV vectors.
template <class T, int NV>
void pack_rows(const T* x, int64_t x_row, int64_t rows, T* y, int64_t y_row = NV * kLanes<T>) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t i = 0; i < rows; ++i, x += x_row, y += y_row) {
    for (int v = 0; v < NV; v += 64 / kVectorBytes)
      __builtin_prefetch(x + kRunRows * x_row + v * L, 0, 2);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(y + v * L, load(x + v * L));
  }
}

// A panel of B: rows x width, zero beyond its cols. Whole panels of the usual widths are copied
// without loops over a row: these would take longer than the copy.
template <class T>
void pack_panel(const T* x, int64_t x_row, int64_t x_col, int64_t rows, int64_t cols, T* y,
                int64_t width) {
  constexpr int64_t L = kLanes<T>;
  if (x_col == 1 && cols == width) {
    if (width == 2 * L) return pack_rows<T, 2>(x, x_row, rows, y);
    if (width == 3 * L) return pack_rows<T, 3>(x, x_row, rows, y);
    if (width == 4 * L) return pack_rows<T, 4>(x, x_row, rows, y);
  }
  gather_block(x, x_row, x_col, rows, cols, y, width);
  for (int64_t i = 0; cols < width && i < rows; ++i) {
    for (int64_t j = cols; j < width; ++j) y[i * width + j] = 0;
  }
}

// Rows of w elements, one after another, from `rows` of x. Whole vectors are copied, what they hold
// beyond a row is overwritten by the next ones; of the `left` rows that there still are, those
// whose vector would end beyond the last are copied element by element.
template <class T>
void pack_narrow_rows(const T* x, int64_t x_row, int64_t rows, int64_t left, int64_t w, T* y) {
  constexpr int64_t L = kLanes<T>;
  const int64_t vectors = w <= L ? 1 : 2;
  const int64_t safe = left >= rows + vectors * L ? rows : left - (vectors * L - 1) / w;
  const int64_t whole = safe < 0 ? 0 : safe < rows ? safe : rows;
  if (vectors == 1) {
    pack_rows<T, 1>(x, x_row, whole, y, w);
  } else {
    pack_rows<T, 2>(x, x_row, whole, y, w);
  }
  for (int64_t i = whole; i < rows; ++i) copy_run(y + i * w, x + i * x_row, w);
}

// The columns of x (rows x cols) in strips of width w, one after another, each (rows x w). A run of
// rows goes to all strips at once: lines of far rows would be lost between one strip and the next.
// Strips have at most two vectors, and x_row as many elements as both together.
template <class T>
void pack_strips(const T* x, int64_t x_row, int64_t rows, const EvenStrips& strips, T* y) {
  for (int64_t i = 0; i < rows; i += kRunRows) {
    const int64_t run = i + kRunRows < rows ? kRunRows : rows - i;
    for (int64_t s = 0; s < strips.count; ++s) {
      const int64_t j = strips.start(s), w = strips.extent(s);
      pack_narrow_rows(x + i * x_row + j, x_row, run, rows - i, w, y + j * rows + i * w);
    }
  }
}

}  // namespace dl::DL_LEVEL
