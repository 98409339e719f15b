// All register tiles of gemm: gemm_tile.h.
#include "cpu/kernels/gemm_tile.h"

namespace dl::DL_LEVEL {

namespace {

template <class T, int H, int NV, class F>
__attribute__((always_inline)) inline void store_rows(const Tile<T>& t, Vec<T> (&acc)[H][NV], F f) {
  T* c = t.c;
#pragma GCC unroll 14
  for (int r = 0; r < H; ++r, c += t.c_row) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(c + v * kLanes<T>, f(acc[r][v], r, v));
  }
}

template <class T, int H, int NV>
__attribute__((always_inline)) inline void store_tile(const Tile<T>& t, Vec<T> (&acc)[H][NV]) {
  constexpr int L = kLanes<T>;
  const Vec<T> zero{};
  const T* x = t.extra;
  switch (t.store) {
    case Store::plain:
      store_rows(t, acc, [](Vec<T> s, int, int) { return s; });
      break;
    case Store::bias:
      store_rows(t, acc, [=](Vec<T> s, int, int v) { return s + load(x + v * L); });
      break;
    case Store::bias_relu:
      store_rows(t, acc, [=](Vec<T> s, int, int v) {
        const Vec<T> y = s + load(x + v * L);
        return y < zero ? zero : y;
      });
      break;
    case Store::relu_grad:
      store_rows(t, acc, [=, ld = t.extra_row](Vec<T> s, int r, int v) {
        return load(x + r * ld + v * L) > zero ? s : zero;
      });
      break;
  }
}

// Low tiles are bound by the count of instructions: a pointer for every row, and four values of k a
// round. Tall ones would run out of pointers: one for every third row, the others one and two
// strides away.
template <int H>
struct Shape {
  static constexpr int kRows = H <= 5 ? 1 : 3, kPointers = (H + kRows - 1) / kRows;
  static constexpr int kUnroll = H <= 5 ? 4 : 1;
};

// Rows of B that a tile which copies them fetches ahead: the way from L3 takes about as long.
constexpr int64_t kRowsAhead = 24;

// kSteps values of k; the side with fewer vectors stays in registers while the other passes by.
// Returns where B goes on. The empty statements keep GCC from precomputing an offset for each
// vector of B, and from mixing steps: registers are too few for both.
template <class T, int NV, int H, bool kPacks, int kSteps, int kPointers>
__attribute__((always_inline)) inline const T* multiply(const T* const (&a)[kPointers], int64_t row,
                                                        int64_t col, const T* b, int64_t b_row,
                                                        Vec<T> (&acc)[H][NV],
                                                        [[maybe_unused]] T* packed) {
  constexpr int L = kLanes<T>, R = Shape<H>::kRows;
#pragma GCC unroll 4
  for (int s = 0; s < kSteps; ++s) {
    if constexpr (kPacks) {
      for (int v = 0; v < NV; v += 64 / kVectorBytes)
        __builtin_prefetch(b + kRowsAhead * b_row + v * L, 0, 3);
    }
    if constexpr (H < NV) {
      Vec<T> x[H];
#pragma GCC unroll 14
      for (int r = 0; r < H; ++r) x[r] = broadcast(a[r / R][(r % R) * row + s * col]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const Vec<T> y = load(b + v * L);
        if constexpr (kPacks) store(packed + (s * NV + v) * L, y);
#pragma GCC unroll 14
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
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        y[v] = load(b + v * L);
        if constexpr (kPacks) store(packed + (s * NV + v) * L, y[v]);
      }
#pragma GCC unroll 14
      for (int r = 0; r < H; ++r) {
        const Vec<T> x = broadcast(a[r / R][(r % R) * row + s * col]);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) add_product<T>(acc[r][v], x, y[v]);
      }
    }
    b += b_row;
    if (!__builtin_constant_p(b_row)) asm("" : "+r"(b));
    asm volatile("");
  }
  return b;
}

// `depth` values of k.
template <class T, int NV, int H, bool kPacks, int kPointers>
__attribute__((always_inline)) inline void accumulate(const T* (&a)[kPointers], int64_t row,
                                                      int64_t col, const T* b, int64_t b_row,
                                                      int64_t depth, Vec<T> (&acc)[H][NV],
                                                      T* packed) {
  [[maybe_unused]] constexpr int L = kLanes<T>;
  constexpr int kUnroll = Shape<H>::kUnroll;
  for (; kUnroll > 1 && depth >= kUnroll; depth -= kUnroll) {
    b = multiply<T, NV, H, kPacks, kUnroll>(a, row, col, b, b_row, acc, packed);
    if constexpr (kPacks) packed += kUnroll * NV * L;
#pragma GCC unroll 6
    for (int g = 0; g < kPointers; ++g) a[g] += kUnroll * col;
  }
  for (; depth > 0; --depth) {
    b = multiply<T, NV, H, kPacks, 1>(a, row, col, b, b_row, acc, packed);
    if constexpr (kPacks) packed += NV * L;
#pragma GCC unroll 6
    for (int g = 0; g < kPointers; ++g) a[g] += col;
  }
}

// The same for tall tiles where a stride of A is known, so that every address is a register and a
// constant away from a few pointers: four values of k share the loop (6 x 2 vectors: 1.8
// instructions a multiply-add instead of 2.1).
template <class T, int NV, int H>
__attribute__((always_inline)) inline void accumulate_fours(const T* a, int64_t row, int64_t col,
                                                            const T* b, int64_t b_row,
                                                            int64_t depth, Vec<T> (&acc)[H][NV]) {
  constexpr int R = Shape<H>::kRows, kPointers = Shape<H>::kPointers, kUnroll = 4;
  const T* rows[kPointers];
  for (; depth >= kUnroll; depth -= kUnroll, a += kUnroll * col) {
#pragma GCC unroll 6
    for (int g = 0; g < kPointers; ++g) rows[g] = a + R * g * row;
    b = multiply<T, NV, H, false, kUnroll>(rows, row, col, b, b_row, acc, nullptr);
  }
  for (; depth > 0; --depth, a += col) {
#pragma GCC unroll 6
    for (int g = 0; g < kPointers; ++g) rows[g] = a + R * g * row;
    b = multiply<T, NV, H, false, 1>(rows, row, col, b, b_row, acc, nullptr);
  }
}

template <class T, int NV, int H, bool kPacks = false>
void tile(const Tile<T>& t) {
  constexpr int L = kLanes<T>;
  constexpr int kPointers = Shape<H>::kPointers;
  constexpr bool kFours = H == 5 || H == 6;
  Vec<T> acc[H][NV];
#pragma GCC unroll 14
  for (int r = 0; r < H; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = Vec<T>{};
  }
  if (t.accumulate) {
    const T* c = t.c;
#pragma GCC unroll 14
    for (int r = 0; r < H; ++r, c += t.c_row) {
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[r][v] = load(c + v * L);
    }
  }
  const int64_t row = t.a_row, col = t.a_col;
  const T* a[kPointers];
#pragma GCC unroll 6
  for (int g = 0; g < kPointers; ++g) a[g] = t.a + Shape<H>::kRows * g * row;
  for (int run = 0; run < 2; ++run) {
    if (t.k[run] == 0) continue;
    if (!kPacks && H >= NV && row == 1 && col == H && t.b_row[run] == NV * L) {  // both packed
      accumulate_fours<T, NV, H>(a[0], 1, H, t.b[run], NV * L, t.k[run], acc);
#pragma GCC unroll 6
      for (int g = 0; g < kPointers; ++g) a[g] += t.k[run] * H;
    } else if (!kPacks && kFours && row == 1) {
      accumulate_fours<T, NV, H>(a[0], 1, col, t.b[run], t.b_row[run], t.k[run], acc);
#pragma GCC unroll 6
      for (int g = 0; g < kPointers; ++g) a[g] += t.k[run] * col;
    } else if (!kPacks && kFours && col == 1) {
      accumulate_fours<T, NV, H>(a[0], row, 1, t.b[run], t.b_row[run], t.k[run], acc);
#pragma GCC unroll 6
      for (int g = 0; g < kPointers; ++g) a[g] += t.k[run];
    } else if (!kPacks && Shape<H>::kUnroll > 1 && t.b_row[run] == NV * L) {  // a packed panel
      accumulate<T, NV, H, false>(a, row, col, t.b[run], NV * L, t.k[run], acc, nullptr);
    } else {
      accumulate<T, NV, H, kPacks>(a, row, col, t.b[run], t.b_row[run], t.k[run], acc, t.packed);
    }
  }
  store_tile<T, H, NV>(t, acc);
}

template <class T, int NV, int H, bool kPacks>
constexpr TileFunction<T> tile_or_null() {
  if constexpr (H <= max_height(NV)) {
    return tile<T, NV, H, kPacks>;
  } else {
    return nullptr;
  }
}

template <class T, int NV, bool kPacks = false>
TileFunction<T> tile_of_height(int h) {
#define DL_H(H) tile_or_null<T, NV, H, kPacks>()
  static constexpr TileFunction<T> kTiles[kTallest] = {
      DL_H(1), DL_H(2), DL_H(3),  DL_H(4),  DL_H(5),  DL_H(6),  DL_H(7),
      DL_H(8), DL_H(9), DL_H(10), DL_H(11), DL_H(12), DL_H(13), DL_H(14)};
#undef DL_H
  return kTiles[h - 1];
}

}  // namespace

template <class T>
TileFunction<T> find_tile(int nv, int h) {
  switch (nv) {
    case 1:
      return tile_of_height<T, 1>(h);
    case 2:
      return tile_of_height<T, 2>(h);
    case 3:
      return tile_of_height<T, 3>(h);
    case 4:
      return tile_of_height<T, 4>(h);
    default:
      return tile_of_height<T, 8>(h);
  }
}

template <class T>
TileFunction<T> find_packing_tile(int nv, int h) {
  return nv == 2 ? tile_of_height<T, 2, true>(h) : tile_of_height<T, 4, true>(h);
}

template <class T>
void stream_row(const Tile<T>& t, int64_t columns) {
  static_assert(kStreamRows == 8);
  Vec<T> x[kStreamRows];
  for (int k = 0; k < kStreamRows; ++k) x[k] = broadcast(t.a[k * t.a_col]);
  const int64_t row = t.b_row[0];
  const T *near = t.b[0], *far = near + 4 * row;  // rows 0 to 3 and 4 to 7
  for (int64_t j = 0; j < columns; j += kLanes<T>) {
    Vec<T> sum = t.accumulate ? load(t.c + j) : Vec<T>{};
    for (int k = 0; k < 4; ++k) sum += x[k] * load(near + k * row + j);
    for (int k = 0; k < 4; ++k) sum += x[4 + k] * load(far + k * row + j);
    store(t.c + j, sum);
  }
}

template void stream_row<float>(const Tile<float>&, int64_t);
template void stream_row<double>(const Tile<double>&, int64_t);
template TileFunction<float> find_packing_tile<float>(int, int);
template TileFunction<double> find_packing_tile<double>(int, int);
template TileFunction<float> find_tile<float>(int, int);
template TileFunction<double> find_tile<double>(int, int);

}  // namespace dl::DL_LEVEL
