// Vector mathematics of the exponential and the logarithm: one text for float and double and every
// lane count, free of branches but for results of exp that are not normal numbers. math.h has the
// other functions, and the errors of all.
#pragma once

#include "cpu/format.h"
#include "cpu/pack.h"

namespace dl::DL_LEVEL {

// c[0] + x (c[1] + x (c[2] + ...))
template <class T, int N>
DL_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[N]) {
  Vec<T> y = broadcast<T>(c[N - 1]);
#pragma GCC unroll 32
  for (int i = N - 2; i >= 0; --i) y = y * x + c[i];
  return y;
}

template <class T, int N, int M>
DL_INLINE Pack<T, N> polynomial(Pack<T, N> x, const T (&c)[M]) {
  Pack<T, N> y = x * c[M - 1] + c[M - 2];
#pragma GCC unroll 32
  for (int i = M - 3; i >= 0; --i) y = y * x + c[i];
  return y;
}

template <class T>
inline Vec<T> absolute(Vec<T> x) {
  return (Vec<T>)((IntVec<T>)x & (Int<T>)(~Int<T>(0) ^ (Int<T>(1) << (8 * sizeof(T) - 1))));
}

template <class T>
inline Vec<T> negative_absolute(Vec<T> x) {
  return (Vec<T>)((IntVec<T>)x | (Int<T>)(Int<T>(1) << (8 * sizeof(T) - 1)));
}

template <class T>
inline Vec<T> copy_sign(Vec<T> magnitude, Vec<T> sign) {
  IntVec<T> s = (IntVec<T>)sign & (Int<T>)(Int<T>(1) << (8 * sizeof(T) - 1));
  return (Vec<T>)((IntVec<T>)absolute<T>(magnitude) | s);
}

template <class T>
inline Vec<T> with_sign(Vec<T> y, Vec<T> sign) {  // for y >= +0
  return (Vec<T>)((IntVec<T>)y | ((IntVec<T>)sign & (Int<T>)(Int<T>(1) << (8 * sizeof(T) - 1))));
}

// Masks of vector comparisons are all ones or zero a lane.
template <class M>
inline bool any(M mask) {
#if defined(__AVX2__)
  typedef long long Piece __attribute__((vector_size(32)));
#else
  typedef long long Piece __attribute__((vector_size(16)));
#endif
  Piece p[sizeof mask / sizeof(Piece)], all{};
  std::memcpy(p, &mask, sizeof mask);
  for (auto part : p) all |= part;
#if defined(__AVX2__)
  return !__builtin_ia32_ptestz256(all, all);
#elif defined(__SSE4_1__)
  return !__builtin_ia32_ptestz128(all, all);
#else
  return (all[0] | all[1]) != 0;
#endif
}

// Loops over lanes that compilers turn into one instruction; the vector extension has no operator
// for them.
#define DL_LANEWISE(name, function)                                  \
  template <class T>                                                 \
  inline Vec<T> name(Vec<T> x) {                                     \
    Vec<T> y;                                                        \
    for (int i = 0; i < kLanes<T>; ++i)                              \
      y[i] = sizeof(T) == 4 ? function##f(x[i]) : (T)function(x[i]); \
    return y;                                                        \
  }
DL_LANEWISE(square_root, __builtin_sqrt)
DL_LANEWISE(floor, __builtin_floor)
DL_LANEWISE(ceil, __builtin_ceil)
DL_LANEWISE(trunc, __builtin_trunc)
DL_LANEWISE(round, __builtin_rint)
#undef DL_LANEWISE

// a b - p exactly, where p = a b rounded.
template <class T>
inline Vec<T> product_error(Vec<T> a, Vec<T> b, Vec<T> p) {
#if defined(__FMA__) || defined(__aarch64__)
  Vec<T> e;
  for (int i = 0; i < kLanes<T>; ++i)
    e[i] = sizeof(T) == 4 ? __builtin_fmaf(a[i], b[i], -p[i]) : (T)__builtin_fma(a[i], b[i], -p[i]);
  return e;
#else  // Dekker 1971: halves of half the bits
  constexpr T split = T(sizeof(T) == 4 ? 4097 : 134217729);
  Vec<T> ta = a * split, tb = b * split;
  Vec<T> ah = ta - (ta - a), bh = tb - (tb - b);
  Vec<T> al = a - ah, bl = b - bh;
  return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
#endif
}

// x = n ln 2 + r, |r| <= ln 2 / 2, for |x| <= kExpHigh or so; n + more lies in the low bits of
// `turns`.
template <class T, int N>
struct Reduced {
  Pack<T, N> turns, r;

  // n + more where a number has its exponent; wraps around
  UIntVec<T> exponent(int k) const { return (UIntVec<T>)turns.v[k] << Format<T>::kMantissaBits; }

  // 2^(n + more - kBias) where that is a normal number
  DL_INLINE Pack<T, N> power_of_two() const {
    Pack<T, N> y;
    for (int k = 0; k < N; ++k) y.v[k] = (Vec<T>)exponent(k);
    return y;
  }
};

template <class T, int N>
DL_INLINE Reduced<T, N> reduce_exp(Pack<T, N> x, int more = 0) {
  using F = Format<T>;
  const T round = F::kRound + T(more);
  const Pack<T, N> turns = x * T(1.442695040888963387) + round, n = turns - round;
  return {turns, (x - n * F::kLn2High) - n * F::kLn2Low};
}

template <class T, int N>
DL_INLINE Pack<T, N> exp_of_reduced(Pack<T, N> r) {
  return (polynomial(r, Format<T>::kExp) * r + T(1)) * r + T(1);
}

// exp(r) - 1
template <class T, int N>
DL_INLINE Pack<T, N> expm1_of_reduced(Pack<T, N> r) {
  return polynomial(r, Format<T>::kExp) * (r * r) + r;
}

// p 2^n for any n, subnormal and infinite results included: through a number in the middle of the
// range
template <class T>
inline Vec<T> scale(Vec<T> p, const Reduced<T, 1>& x) {
  using F = Format<T>;
  constexpr int far = F::kBias / 2;
  constexpr T back = sizeof(T) == 4 ? T(0x1p63) : T(0x1p511);
  const auto down = x.turns.v[0] < F::kRound;
  const UIntVec<T> to = down ? UIntVec<T>{} + (UInt<T>(F::kBias + far) << F::kMantissaBits)
                             : UIntVec<T>{} + (UInt<T>(F::kBias - far) << F::kMantissaBits);
  return p * (Vec<T>)(x.exponent(0) + to) * (down ? broadcast<T>(1 / back) : broadcast<T>(back));
}

// exp for any x. Out of line, as few need it.
template <class T>
__attribute__((noinline, cold)) Vec<T> exp_anywhere(Vec<T> x) {
  using F = Format<T>;
  const Pack<T, 1> t{at_most<T>(at_least<T>(x, F::kExpLow), F::kExpHigh)};
  const Reduced<T, 1> reduced = reduce_exp(t);
  return scale(exp_of_reduced(reduced.r).v[0], reduced);
}

// Whether all |x| < end, for a modest end; may say no where a few come near it.
template <class T, int N>
DL_INLINE bool all_within(Pack<T, N> x, T end) {
  Vec<T> squares = x.v[0] * x.v[0];
  for (int k = 1; k < N; ++k) squares += x.v[k] * x.v[k];
  return !any(~(squares < end * end));
}

// 2^n goes to the exponent of exp(r) as an integer, where all results are normal numbers; the slow
// way gives these the same bits.
template <class T, int N>
DL_INLINE Pack<T, N> exp(Pack<T, N> x) {
  if (!all_within(x, Format<T>::kExpPlain)) [[unlikely]]
    return each(x, exp_anywhere<T>);
  const Reduced<T, N> reduced = reduce_exp(x);
  Pack<T, N> y = exp_of_reduced(reduced.r);
  for (int k = 0; k < N; ++k) y.v[k] = (Vec<T>)((UIntVec<T>)y.v[k] + reduced.exponent(k));
  return y;
}

template <class T>
inline Vec<T> exp(Vec<T> x) {
  return exp(Pack<T, 1>{x}).v[0];
}

// exp(z) for z <= 0 without the care that results below the normal range need: they are 0.
template <class T>
inline Vec<T> exp_nonpositive(Vec<T> z) {
  constexpr T low = -Format<T>::kExpPlain;
  const Reduced<T, 1> x = reduce_exp(Pack<T, 1>{at_least<T>(z, low)});
  const UIntVec<T> y = (UIntVec<T>)exp_of_reduced(x.r).v[0] + x.exponent(0);
  return z < low ? Vec<T>{} : (Vec<T>)y;
}

// exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1)
template <class T>
inline Vec<T> expm1(Vec<T> x) {
  using F = Format<T>;
  const Pack<T, 1> t{at_most<T>(at_least<T>(x, F::kExpm1Low), F::kExpHigh)};
  const Reduced<T, 1> reduced = reduce_exp(t, F::kBias - 1);
  const Vec<T> s = reduced.power_of_two().v[0];  // of 2^(n - 1): 2^n itself would overflow first
  const Vec<T> y = (expm1_of_reduced(reduced.r).v[0] * s + (s - T(0.5))) * T(2);
  return absolute<T>(x) < F::kTiny ? x : y;
}

// kExp for (exp(2 r) - 1) / 2 = r + r^2 (...): exact, as its factors are powers of two
template <class T>
struct HalfExp {
  T c[sizeof Format<T>::kExp / sizeof(T)];
  constexpr HalfExp() : c{} {
    T factor = 1;
    for (int i = 0; i < int(sizeof c / sizeof(T)); ++i) c[i] = (factor *= 2) * Format<T>::kExp[i];
  }
};
template <class T>
constexpr HalfExp<T> kHalfExp;

// tanh |x| = (s - e) / (s + e), where |x| = n ln 2 / 2 - r, s = 2^n and e = exp(2 r) = 1 + 2 q. So
// s and 1 meet first and lose nothing, and each sum is rounded once. n is so small that one product
// with ln 2 / 2 is as good as two, if it is not rounded itself.
template <class T, int N>
DL_INLINE Pack<T, N> tanh(Pack<T, N> x) {
  using F = Format<T>;
  constexpr T round = F::kRound + (F::kBias - 1);
  const Pack<T, N> t = each(x, [](Vec<T> x) { return at_most<T>(absolute<T>(x), F::kTanhHigh); });
  const Pack<T, N> turns = t * T(2.885390081777926774) + round, n = turns - round;
  const Pack<T, N> r = kFused ? n * T(0.34657359027997265471) - t
                              : n * (F::kLn2Low / 2) + (n * (F::kLn2High / 2) - t);
  const Pack<T, N> half_s = Reduced<T, N>{turns, r}.power_of_two(),
                   q = polynomial(r, kHalfExp<T>.c) * (r * r) + r;
  return each(((half_s - T(0.5)) - q) / ((half_s + T(0.5)) + q), x, with_sign<T>);
}

template <class T>
inline Vec<T> tanh(Vec<T> x) {
  return tanh(Pack<T, 1>{x}).v[0];
}

// d = 2^-kUnitShift keeps d exp(-x) normal wherever 1 / (1 + exp(-x)) is neither 0 nor 1
template <class T>
constexpr int kUnitShift = Format<T>::kBias / 4;
template <class T>
constexpr T kUnit = sizeof(T) == 4 ? T(0x1p-31) : T(0x1p-255);

// 1 / (1 + exp(-x)) as d / (d + d exp(-x)), where d exp(-x) = s + s (exp(r) - 1). s = 2^n is added
// last, as it may be so large that all else is lost.
template <class T, int N>
DL_INLINE Pack<T, N> sigmoid(Pack<T, N> x) {
  using F = Format<T>;
  constexpr T d = kUnit<T>;
  const Pack<T, N> t =
      each(x, [](Vec<T> x) { return at_most<T>(at_least<T>(x, F::kSigmoidLow), F::kSigmoidHigh); });
  const Reduced<T, N> reduced = reduce_exp(T(-1) * t, F::kBias - kUnitShift<T>);
  const Pack<T, N> s = reduced.power_of_two();
  return d / ((expm1_of_reduced(reduced.r) * s + d) + s);
}

template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
  return sigmoid(Pack<T, 1>{x}).v[0];
}

// 1 / (1 + 2^x) where d 2^x is normal: a sigmoid without the products of the reduction, x = n + r,
// for arguments that come in these units
template <class T, int N>
DL_INLINE Pack<T, N> inverse_1_plus_exp2(Pack<T, N> x) {
  using F = Format<T>;
  constexpr T round = F::kRound + T(F::kBias - kUnitShift<T>);
  const Pack<T, N> turns = x + round, r = x - (turns - round),
                   s = Reduced<T, N>{turns, r}.power_of_two();
  return kUnit<T> / ((polynomial(r, F::kExp2) * r + T(1)) * s + kUnit<T>);
}

// x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2, for normal x > 0
template <class T>
struct Split {
  Vec<T> k, f;
};

template <class T>
inline Split<T> split_exponent(Vec<T> x) {
  using F = Format<T>;
  using U = typename F::UInt;
  constexpr U root =
      (U(F::kBias - 1) << F::kMantissaBits) +
      U(T(0.41421356237309504880) * (U(1) << F::kMantissaBits));  // bits of sqrt(1/2)
  constexpr U one = U(1) << F::kMantissaBits;
  auto i = (Vec<U>)x - root + (U(F::kBias) << F::kMantissaBits);
  auto e = i >> F::kMantissaBits;  // k + kBias, as the low bits of a number with unit 1
  Vec<T> big = (Vec<T>)(e | (U(F::kBias + F::kMantissaBits) << F::kMantissaBits));
  return {big - T(one + U(F::kBias)), (Vec<T>)((i & (one - 1)) + root) - T(1)};
}

// k ln 2 + log(1 + f + correction), with s = f / (2 + f): log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + z
// R(z)), z = s^2
template <class T>
inline Vec<T> log_of_split(Split<T> x, Vec<T> correction) {
  using F = Format<T>;
  Vec<T> s = x.f / (x.f + T(2)), z = s * s, h = T(0.5) * x.f * x.f;
  Vec<T> tail = s * (h + z * polynomial<T>(z, F::kLog)) + (x.k * F::kLn2Low + correction);
  return x.k * F::kLn2High + (x.f - (h - tail));
}

template <class T>
inline Vec<T> log_limits(Vec<T> x, Vec<T> y) {  // y is right where 0 < x < Inf
  constexpr T inf = __builtin_huge_val();
  Vec<T> edge = x == T(0) ? broadcast<T>(-inf) : broadcast<T>(__builtin_nan(""));
  return x > T(0) ? (x < inf ? y : x) : edge;
}

template <class T>
inline Vec<T> log_positive(Vec<T> x) {
  using F = Format<T>;
  constexpr T up = T(uint64_t(1) << F::kMantissaBits);
  auto small = x < F::kMinNormal;
  Split<T> parts = split_exponent<T>(small ? x * up : x);
  parts.k = small ? parts.k - T(F::kMantissaBits) : parts.k;
  return log_of_split<T>(parts, Vec<T>{});
}

template <class T>
inline Vec<T> log(Vec<T> x) {
  return log_limits<T>(x, log_positive<T>(x));
}

template <class T>
inline Vec<T> log1p(Vec<T> x) {
  Vec<T> u = x + T(1);
  Vec<T> c = (x > T(1) ? T(1) - (u - x) : x - (u - T(1))) / u;  // what rounding u lost
  Vec<T> y = log_limits<T>(u, log_of_split<T>(split_exponent<T>(u), c));
  return absolute<T>(x) < Format<T>::kTiny ? x : y;
}

}  // namespace dl::DL_LEVEL
