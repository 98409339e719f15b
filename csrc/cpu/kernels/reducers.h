// Sum, max, min and product of runs and of rows, by vectors in a fixed order. Max and min pass NaN
// on.
#pragma once

#include "cpu/kernels/expression.h"
#include "cpu/simd.h"

namespace dl::DL_LEVEL {

struct Sum {
  static constexpr double identity = 0;
  template <class V>
  static V combine(V a, V b) {
    return a + b;
  }
};

struct Product {
  static constexpr double identity = 1;
  template <class V>
  static V combine(V a, V b) {
    return a * b;
  }
};

struct Max {
  static constexpr double identity = -__builtin_huge_val();
  template <class V>
  static V combine(V a, V b) {
    return ((a > b) | (a != a)) ? a : b;
  }
};

struct Min {
  static constexpr double identity = __builtin_huge_val();
  template <class V>
  static V combine(V a, V b) {
    return ((a < b) | (a != a)) ? a : b;
  }
};

template <class T>
inline void fill(T* p, int64_t n, T x) {
  for (int64_t i = 0; i < n; ++i) p[i] = x;
}

// The first n < kLanes elements; the rest is neutral.
template <class T, class Kind>
inline Vec<T> load_neutral(const T* p, int64_t n) {
  if (Kind::identity == 0) return load_part<T>(p, n);
  Vec<T> v = broadcast<T>(T(Kind::identity));
  std::memcpy(&v, p, n * sizeof(T));
  return v;
}

// All lanes of N elements, by halves.
template <class T, class Kind, int N>
inline T reduce_lanes(const T* lanes) {
  if constexpr (N == 1) {
    return lanes[0];
  } else {
    T half[N / 2];
    for (int i = 0; i < N / 2; ++i) half[i] = Kind::template combine<T>(lanes[i], lanes[i + N / 2]);
    return reduce_lanes<T, Kind, N / 2>(half);
  }
}

template <class T, class Kind>
inline T reduce_vector(Vec<T> v) {
  T lanes[kLanes<T>];
  std::memcpy(lanes, &v, sizeof v);
  return reduce_lanes<T, Kind, kLanes<T>>(lanes);
}

template <class T, class Kind>
inline T reduce_run(const T* p, int64_t n, int64_t stride) {
  constexpr int L = kLanes<T>;
  if (stride == 0) {  // n times the same value
    T x = p[0];
    if (Kind::identity == 0) return x * T(n);
    T y = x;
    if (Kind::identity == 1)
      for (int64_t i = 1; i < n; ++i) y *= x;
    return y;
  }
  const Vec<T> neutral = broadcast<T>(T(Kind::identity));
  Vec<T> a = neutral, b = neutral, c = neutral, d = neutral;
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    a = Kind::template combine<Vec<T>>(a, load<T>(p + i));
    b = Kind::template combine<Vec<T>>(b, load<T>(p + i + L));
    c = Kind::template combine<Vec<T>>(c, load<T>(p + i + 2 * L));
    d = Kind::template combine<Vec<T>>(d, load<T>(p + i + 3 * L));
  }
  for (; i + L <= n; i += L) a = Kind::template combine<Vec<T>>(a, load<T>(p + i));
  if (i < n) b = Kind::template combine<Vec<T>>(b, load_neutral<T, Kind>(p + i, n - i));
  return reduce_vector<T, Kind>(Kind::template combine<Vec<T>>(
      Kind::template combine<Vec<T>>(a, b), Kind::template combine<Vec<T>>(c, d)));
}

// acc[0..cols) = acc with the rows of x: four rows meet first, for fewer loads of acc and smaller
// rounding errors
template <class T, class Kind>
inline void add_wide_rows(T* acc, const T* x, int64_t rows, int64_t cols, int64_t row_stride) {
  constexpr int L = kLanes<T>;
  for (int64_t r = 0; r < rows; r += 4) {
    const T* p = x + r * row_stride;
    const int64_t n = rows - r < 4 ? rows - r : 4;
    auto step = [&](int64_t c, auto load_at, auto store_at) __attribute__((always_inline)) {
      Vec<T> y = load_at(p + c);
      if (n == 4)
        y = Kind::template combine<Vec<T>>(
            Kind::template combine<Vec<T>>(y, load_at(p + row_stride + c)),
            Kind::template combine<Vec<T>>(load_at(p + 2 * row_stride + c),
                                           load_at(p + 3 * row_stride + c)));
      else
        for (int64_t i = 1; i < n; ++i)
          y = Kind::template combine<Vec<T>>(y, load_at(p + i * row_stride + c));
      store_at(acc + c, Kind::template combine<Vec<T>>(load_at(acc + c), y));
    };
    int64_t c = 0;
    for (; c + L <= cols; c += L)
      step(c, [](const T* q) { return load<T>(q); }, [](T* q, Vec<T> v) { store<T>(q, v); });
    const int64_t tail = cols - c;
    if (tail)
      step(
          c, [=](const T* q) { return load_part<T>(q, tail); },
          [=](T* q, Vec<T> v) { store_part<T>(q, v, tail); });
  }
}

// Rows of a block into acc[fold * cols]: dense narrow rows are taken `fold` at a time, as one wide
// row.
template <class T, class Kind>
inline void add_rows(T* acc, View<T> x, int64_t rows, int64_t cols, int64_t fold) {
  if (x.col_stride == 0) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        acc[c] = Kind::template combine<T>(acc[c], x.data[r * x.row_stride]);
    return;
  }
  const int64_t folded = x.row_stride == cols ? rows / fold : 0;
  if (folded) add_wide_rows<T, Kind>(acc, x.data, folded, cols * fold, cols * fold);
  const int64_t done = folded * fold;
  add_wide_rows<T, Kind>(acc, x.data + done * x.row_stride, rows - done, cols, x.row_stride);
}

}  // namespace dl::DL_LEVEL
