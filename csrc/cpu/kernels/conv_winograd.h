// Convolution by 3 x 3 filters with 16 products for every 2 x 2 outputs instead of 36: Winograd's
// minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks", 2016), with the points 0, 1, -1 and infinity.
//
//   forward, input gradient   y  = A^T [(G w G^T) (B^T x B)] A         summed over channels
//   filter gradient           dw = D^T [(B^T x B) (E^T dy E)] D        summed over tiles
//
//   B^T = 1  0 -1  0   G = 1  0  0   A^T = 1  1  1  0   E^T = 1  0   D^T = 1  h  h  0
//         0  1  1  0       h  h  h         0  1 -1 -1         1  1         0  h -h  0
//         0 -1  1  0       h -h  h                            1 -1         0  h  h -1
//         0  1  0 -1       0  0  1         h = 1/2            0  1
//
// All factors are 1 or 1/2: sums of small integers stay exact. Products are of one element of the
// 4 x 4 each: 16 matrix products of tiles x channels by channels x filters.
// NaN or an infinity in x is NaN in all 2 x 2 outputs of the tiles that read it.
#pragma once

#include "cpu/kernels/conv_plan.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

constexpr int kPoints = 16;

// Elements from one of the 16 matrices to the next: not near a multiple of 4 KB, or the 16 streams
// of a transform would meet in few sets of L1.
template <class T>
int64_t matrix_step(int64_t elements) {
  constexpr int64_t kPage = 4096 / sizeof(T), kApart = 256 / sizeof(T);
  return round_up(elements, kPage) + kApart;
}

// B^T x B of one tile: v[point * matrix + c].
template <class T>
void transform_input(const T* x, int64_t row, int64_t col, int64_t channels, T* v, int64_t matrix) {
  constexpr int kFirst[] = {0, 1, 2, 1}, kSecond[] = {2, 2, 1, 3};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const T *a = x + kFirst[i] * row, *b = x + kSecond[i] * row;
    T* to = v + 4 * i * matrix;
    for (int64_t c = 0; c < channels; c += kLanes<T>) {
      Vec<T> t[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const Vec<T> first = load(a + c + j * col), second = load(b + c + j * col);
        t[j] = i == 1 ? first + second : first - second;
      }
      store(to + c, t[0] - t[2]);
      store(to + c + matrix, t[1] + t[2]);
      store(to + c + 2 * matrix, t[2] - t[1]);
      store(to + c + 3 * matrix, t[1] - t[3]);
    }
  }
}

// E^T dy E of 2 x 2 outputs: d[point * matrix + k].
template <class T>
void transform_gradient(const T* dy, int64_t row, int64_t col, int64_t cols, T* d, int64_t matrix) {
  for (int64_t k = 0; k < cols; k += kLanes<T>) {
    const T* x = dy + k;
    const Vec<T> a = load(x), b = load(x + col), c = load(x + row), e = load(x + row + col);
    const Vec<T> left[] = {a, a + c, a - c, c}, right[] = {b, b + e, b - e, e};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      T* to = d + k + 4 * i * matrix;
      store(to, left[i]);
      store(to + matrix, left[i] + right[i]);
      store(to + 2 * matrix, left[i] - right[i]);
      store(to + 3 * matrix, right[i]);
    }
  }
}

// G w G^T: taps are `tap` elements apart, what becomes of them `matrix`.
template <class T>
void transform_filter(const T* w, int64_t tap, int64_t n, T* u, int64_t matrix) {
  const T h = T(0.5);
  const auto spread = [h](Vec<T> a, Vec<T> b, Vec<T> c, Vec<T>(&to)[4]) {
    const Vec<T> outer = (a + c) * h, inner = b * h;
    to[0] = a, to[1] = outer + inner, to[2] = outer - inner, to[3] = c;
  };
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    Vec<T> column[3][4];
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s)
      spread(load(w + i + s * tap), load(w + i + (3 + s) * tap), load(w + i + (6 + s) * tap),
             column[s]);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      Vec<T> to[4];
      spread(column[0][r], column[1][r], column[2][r], to);
#pragma GCC unroll 4
      for (int s = 0; s < 4; ++s) store(u + i + (4 * r + s) * matrix, to[s]);
    }
  }
}

// D^T m D: sums of a filter gradient, 9 rows `tap` elements apart.
template <class T>
void transform_sums(const T* m, int64_t matrix, int64_t n, T* dw, int64_t tap) {
  const T h = T(0.5);
  const auto gather = [h](Vec<T> a, Vec<T> b, Vec<T> c, Vec<T> d, Vec<T>(&to)[3]) {
    const Vec<T> sum = (b + c) * h;
    to[0] = a + sum, to[1] = (b - c) * h, to[2] = sum - d;
  };
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    Vec<T> column[4][3];
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s)
      gather(load(m + i + s * matrix), load(m + i + (4 + s) * matrix),
             load(m + i + (8 + s) * matrix), load(m + i + (12 + s) * matrix), column[s]);
#pragma GCC unroll 3
    for (int r = 0; r < 3; ++r) {
      Vec<T> to[3];
      gather(column[0][r], column[1][r], column[2][r], column[3][r], to);
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s) store(dw + i + (3 * r + s) * tap, to[s]);
    }
  }
}

// 2 x 2 outputs of a convolution of stride 1; tiles are numbered through rows, then images.
struct ImageTile {
  int64_t n, p, q;
};

inline ImageTile image_tile(const Conv& c, int64_t i) {
  const int64_t row = i / c.tile_cols;
  return {row / c.tile_rows, row % c.tile_rows * 2, i % c.tile_cols * 2};
}

// A square of pixels, some of which may lie outside of their image.
template <class T>
struct Patch {
  const T* x;
  int64_t row, col;
};

// The size x size pixels from (p, q) on of an image of h x w: in place, or a copy with zeros.
template <class T>
Patch<T> read_patch(const T* image, const Strides& s, int64_t h, int64_t w, int64_t p, int64_t q,
                    int64_t size, int64_t channels, T* copy) {
  const T* x = image + p * s.axis[1] + q * s.axis[2];
  if (p >= 0 && q >= 0 && p + size <= h && q + size <= w) return {x, s.axis[1], s.axis[2]};
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j < size; ++j) {
      const bool inside = p + i >= 0 && p + i < h && q + j >= 0 && q + j < w;
      T* to = copy + (i * size + j) * channels;
      const T* from = x + i * s.axis[1] + j * s.axis[2];
      for (int64_t c = 0; c < channels; c += kLanes<T>)
        store(to + c, inside ? load(from + c) : Vec<T>{});
    }
  }
  return {copy, size * channels, channels};
}

// C (rows x nv vectors) = or += A @ B for one of the 16 points, in strips of nearly equal heights.
template <class T>
void multiply_point(Tile<T> t, int64_t rows, int nv) {
  const EvenStrips strips(rows, max_height(nv));
  for (int64_t s = 0; s < strips.count; ++s) {
    const int64_t h = strips.extent(s);
    find_tile<T>(nv, static_cast<int>(h))(t);
    t.a += h * t.a_row, t.c += h * t.c_row;
  }
}

// The forward pass or the input gradient where read_conv chose it: Conv::winograd.
void plan_winograd(const Conv& c, Work& work);
void run_winograd(const Call& call, const Conv& c, int phase, int64_t begin, int64_t end,
                  char* scratch);

}  // namespace dl::DL_LEVEL
