// N vectors that go through a function together: instructions of different vectors do not wait for
// each other, where those of one form a chain of dozens. Arithmetic is that of vectors.
#pragma once

#include "cpu/simd.h"

namespace dl::DL_LEVEL {

// Compilers would rather call a function of packs, through memory, than repeat it.
#define DL_INLINE inline __attribute__((always_inline))

#define DL_EACH _Pragma("GCC unroll 8") for (int k = 0; k < N; ++k)
#define DL_PACK_OPERATOR(op)                                 \
  friend DL_INLINE Pack operator op(Pack a, const Pack& b) { \
    DL_EACH a.v[k] = a.v[k] op b.v[k];                       \
    return a;                                                \
  }                                                          \
  friend DL_INLINE Pack operator op(Pack a, T b) {           \
    DL_EACH a.v[k] = a.v[k] op b;                            \
    return a;                                                \
  }                                                          \
  friend DL_INLINE Pack operator op(T a, Pack b) {           \
    DL_EACH b.v[k] = a op b.v[k];                            \
    return b;                                                \
  }

template <class T, int N>
struct Pack {
  Vec<T> v[N];

  DL_PACK_OPERATOR(+)
  DL_PACK_OPERATOR(-)
  DL_PACK_OPERATOR(*)
  DL_PACK_OPERATOR(/)
};
#undef DL_PACK_OPERATOR

// f of each vector
template <class T, int N, class F>
DL_INLINE Pack<T, N> each(Pack<T, N> x, F f) {
  DL_EACH x.v[k] = f(x.v[k]);
  return x;
}

template <class T, int N, class F>
DL_INLINE Pack<T, N> each(Pack<T, N> x, const Pack<T, N>& y, F f) {
  DL_EACH x.v[k] = f(x.v[k], y.v[k]);
  return x;
}
#undef DL_EACH

// Whether a b + c is rounded once
#if defined(__FMA__) || defined(__aarch64__)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

constexpr int kPack = kFused ? 4 : 2;  // vectors in flight in the loops of long functions

}  // namespace dl::DL_LEVEL
