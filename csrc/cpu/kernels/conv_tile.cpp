// All register tiles of convolutions: conv_tile.h.
#include "cpu/kernels/conv_tile.h"

namespace dl::DL_LEVEL {

namespace {

template <class T, int NV, int H, class F>
__attribute__((always_inline)) inline void store_sums(const SumTile<T>& t, Vec<T> (&acc)[H][NV],
                                                      F f) {
#pragma GCC unroll 12
  for (int r = 0; r < H; ++r) {
    T* c = t.c + t.c_at[r];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(c + v * kLanes<T>, f(acc[r][v], r, v));
  }
}

template <class T, int NV, int H>
__attribute__((always_inline)) inline void finish_sums(const SumTile<T>& t, Vec<T> (&acc)[H][NV]) {
  constexpr int L = kLanes<T>;
  const Vec<T> zero{};
  const T* x = t.extra;
  switch (t.store) {
    case Store::plain:
      store_sums<T, NV, H>(t, acc, [](Vec<T> s, int, int) { return s; });
      break;
    case Store::bias:
      store_sums<T, NV, H>(t, acc, [=](Vec<T> s, int, int v) { return s + load(x + v * L); });
      break;
    case Store::bias_relu:
      store_sums<T, NV, H>(t, acc, [=](Vec<T> s, int, int v) {
        const Vec<T> y = s + load(x + v * L);
        return y < zero ? zero : y;
      });
      break;
    case Store::relu_grad:
      store_sums<T, NV, H>(t, acc, [=, at = t.extra_at](Vec<T> s, int r, int v) {
        return load(x + at[r] + v * L) > zero ? s : zero;
      });
      break;
  }
}

// The next element of k; returns where B goes on. As in gemm_tile.cpp the empty statements keep GCC
// from precomputing offsets and from mixing elements, for which there are no registers.
template <class T, bool kWide, int NV, int H>
__attribute__((always_inline)) inline const T* multiply(const T* const (&a)[H], int64_t at,
                                                        const T* b, int64_t b_row,
                                                        Vec<T> (&acc)[H][NV]) {
  constexpr int L = kLanes<T>;
  if constexpr (!kWide && H < NV) {
    Vec<T> x[H];
#pragma GCC unroll 12
    for (int r = 0; r < H; ++r) x[r] = broadcast(a[r][at]);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const Vec<T> y = load(b + v * L);
#pragma GCC unroll 12
      for (int r = 0; r < H; ++r) {
        if constexpr (H == 2) {
          add_product<T>(acc[r][v], x[r], y);
        } else {
          acc[r][v] += x[r] * y;
        }
      }
    }
  } else {
    Vec<T> y[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) y[v] = load(b + v * L);
#pragma GCC unroll 12
    for (int r = 0; r < H; ++r) {
      if constexpr (kWide) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[r][v] += load(a[r] + at + v * L) * y[v];
      } else {
        const Vec<T> x = broadcast(a[r][at]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) add_product<T>(acc[r][v], x, y[v]);
      }
    }
  }
  b += b_row;
  if (!__builtin_constant_p(b_row)) asm("" : "+r"(b));
  asm volatile("");
  return b;
}

template <class T, bool kWide, int NV, int H>
__attribute__((always_inline)) inline void accumulate(const T* const (&a)[H], const int64_t* col,
                                                      int64_t k, const T* b, int64_t b_row,
                                                      Vec<T> (&acc)[H][NV]) {
  const int64_t* const end = col + k;
  constexpr int kUnroll = 4;
  for (; col + kUnroll <= end; col += kUnroll) {
#pragma GCC unroll 4
    for (int s = 0; s < kUnroll; ++s) b = multiply<T, kWide>(a, col[s], b, b_row, acc);
  }
  for (; col < end; ++col) b = multiply<T, kWide>(a, *col, b, b_row, acc);
}

template <class T, bool kWide, int NV, int H>
__attribute__((always_inline)) inline void sum_strip(const SumTile<T>& t) {
  constexpr int L = kLanes<T>;
  Vec<T> acc[H][NV];
#pragma GCC unroll 12
  for (int r = 0; r < H; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] = Vec<T>{};
  }
  if (t.start) {
    const T* c = t.start;
#pragma GCC unroll 12
    for (int r = 0; r < H; ++r, c += t.start_row) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[r][v] = load(c + v * L);
    }
  }
  const T* a[H];
#pragma GCC unroll 12
  for (int r = 0; r < H; ++r) a[r] = t.a + t.row[r];
  if (t.b_row == NV * L) {  // a packed panel
    accumulate<T, kWide>(a, t.col, t.k, t.b, NV * L, acc);
  } else {
    accumulate<T, kWide>(a, t.col, t.k, t.b, t.b_row, acc);
  }
  finish_sums<T, NV, H>(t, acc);
}

template <class T, bool kWide, int NV, int H>
void sum_tile(const SumTile<T>& tile) {
  if constexpr (H > kStripRows) {
    sum_strip<T, kWide, NV, H>(tile);
  } else {
    SumTile<T> t = tile;
    for (int64_t s = 0; s < tile.strips; ++s) {
      sum_strip<T, kWide, NV, H>(t);
      t.row += H, t.c_at += H;
      if (t.extra) t.extra_at += H;
      if (t.start) t.start += H * t.start_row;
    }
  }
}

template <class T, bool kWide, int NV, int H>
constexpr SumFunction<T> sum_or_null() {
  if constexpr (H <= sum_height(NV)) {
    return sum_tile<T, kWide, NV, H>;
  } else {
    return nullptr;
  }
}

template <class T, bool kWide, int NV>
SumFunction<T> sum_of_height(int h) {
#define DL_H(H) sum_or_null<T, kWide, NV, H>()
  static constexpr SumFunction<T> kTiles[kMostRows] = {DL_H(1), DL_H(2),  DL_H(3),  DL_H(4),
                                                       DL_H(5), DL_H(6),  DL_H(7),  DL_H(8),
                                                       DL_H(9), DL_H(10), DL_H(11), DL_H(12)};
#undef DL_H
  return kTiles[h - 1];
}

// Halves are added to halves.
template <class T, int kBytes, class V>
__attribute__((always_inline)) inline T add_halves(V v) {
  if constexpr (kBytes == sizeof(T)) {
    return v[0];
  } else {
    typedef T Half __attribute__((vector_size(kBytes / 2)));
    Half half[2];
    std::memcpy(half, &v, sizeof v);
    return add_halves<T, kBytes / 2>(half[0] + half[1]);
  }
}

template <class T>
__attribute__((always_inline)) inline T add_lanes(Vec<T> v) {
  return add_halves<T, kVectorBytes>(v);
}

template <class T, int NC, int H>
__attribute__((always_inline)) inline void multiply_lanes(const T* const (&a)[H], int64_t at,
                                                          const T* b, Vec<T> (&acc)[H][NC]) {
  Vec<T> y[NC];
#pragma GCC unroll 4
  for (int c = 0; c < NC; ++c) y[c] = load(b + c * kLanes<T>);
#pragma GCC unroll 12
  for (int r = 0; r < H; ++r) {
    const Vec<T> x = load(a[r] + at);
#pragma GCC unroll 4
    for (int c = 0; c < NC; ++c) {
      if constexpr (NC > 1) {
        add_product<T>(acc[r][c], x, y[c]);
      } else {
        acc[r][c] += x * y[c];
      }
    }
  }
  asm volatile("");
}

template <class T, int NC, int H>
void dot_tile(const SumTile<T>& t) {
  constexpr int L = kLanes<T>, kUnroll = 4;
  Vec<T> acc[H][NC];
#pragma GCC unroll 12
  for (int r = 0; r < H; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < NC; ++c) acc[r][c] = Vec<T>{};
  }
  const T* a[H];
#pragma GCC unroll 12
  for (int r = 0; r < H; ++r) a[r] = t.a + t.row[r];
  const T* b = t.b;
  for (const int64_t *col = t.col, *end = col + t.k; col < end; ++col) {
    const T* const run_end = b + t.b_row;
    int64_t at = *col;
    for (; b + kUnroll * NC * L <= run_end; b += kUnroll * NC * L, at += kUnroll * L) {
#pragma GCC unroll 4
      for (int s = 0; s < kUnroll; ++s) multiply_lanes(a, at + s * L, b + s * NC * L, acc);
    }
    for (; b < run_end; b += NC * L, at += L) multiply_lanes(a, at, b, acc);
  }
#pragma GCC unroll 12
  for (int r = 0; r < H; ++r) {
    T* to = t.c + t.c_at[r];
#pragma GCC unroll 4
    for (int c = 0; c < NC; ++c) to[c] = add_lanes<T>(acc[r][c]);
  }
}

template <class T, int NC, int H>
constexpr SumFunction<T> dot_or_null() {
  if constexpr (H <= dot_height(NC)) {
    return dot_tile<T, NC, H>;
  } else {
    return nullptr;
  }
}

template <class T, int NC>
SumFunction<T> dot_of_height(int h) {
#define DL_H(H) dot_or_null<T, NC, H>()
  static constexpr SumFunction<T> kTiles[kMostRows] = {DL_H(1), DL_H(2),  DL_H(3),  DL_H(4),
                                                       DL_H(5), DL_H(6),  DL_H(7),  DL_H(8),
                                                       DL_H(9), DL_H(10), DL_H(11), DL_H(12)};
#undef DL_H
  return kTiles[h - 1];
}

}  // namespace

template <class T>
SumFunction<T> find_dot(int nc, int h) {
  switch (nc) {
    case 1:
      return dot_of_height<T, 1>(h);
    case 2:
      return dot_of_height<T, 2>(h);
    case 3:
      return dot_of_height<T, 3>(h);
    default:
      return dot_of_height<T, 4>(h);
  }
}

template SumFunction<float> find_dot<float>(int, int);
template SumFunction<double> find_dot<double>(int, int);

template <class T, bool kWide>
SumFunction<T> find_sum(int nv, int h) {
  if constexpr (!kWide && kVectorRegisters == 16) {
    if (nv == 4) return sum_of_height<T, kWide, 4>(h);
  }
  switch (nv) {
    case 1:
      return sum_of_height<T, kWide, 1>(h);
    case 2:
      return sum_of_height<T, kWide, 2>(h);
    default:
      return sum_of_height<T, kWide, 3>(h);
  }
}

template SumFunction<float> find_sum<float, false>(int, int);
template SumFunction<float> find_sum<float, true>(int, int);
template SumFunction<double> find_sum<double, false>(int, int);
template SumFunction<double> find_sum<double, true>(int, int);

}  // namespace dl::DL_LEVEL
