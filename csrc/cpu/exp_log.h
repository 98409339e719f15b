// Vector mathematics of the exponential and the logarithm: one text for float and double and every
// lane count, free of branches but for results of exp that are not normal numbers. math.h has the
// other functions, and the errors of all.
#pragma once

#include "cpu/pack.h"
#include "cpu/simd.h"

namespace dl::DL_LEVEL {

// Coefficients are minimax (Remez) in relative error, the low ones rounded first; degree 0 first.
template <class T>
struct Format;

template <>
struct Format<float> {
  using Int = int32_t;
  using UInt = uint32_t;
  static constexpr int kMantissaBits = 23, kBias = 127;
  static constexpr float kMinNormal = 0x1p-126f,
                         kRound = 0x1.8p23f;  // x + kRound - kRound rounds to an integer
  static constexpr float kLn2High = 0x1.62ep-1f, kLn2Low = 0x1.0bfbe8p-15f;
  // exp underflows to 0 below, overflows above; expm1 is -1 below; tanh is 1 above
  static constexpr float kExpLow = -104, kExpHigh = 89, kExpm1Low = -18, kTanhHigh = 9.1f,
                         kTiny = 0x1p-26f;
  // exp of less in magnitude is a normal number; sigmoid is 0 below, 1 above
  static constexpr float kExpPlain = 87, kSigmoidLow = -105, kSigmoidHigh = 64;
  // sin and cos: pi / 2 in parts of few bits; beyond the bound libm takes over
  static constexpr float kHalfPi[] = {1.5703125f, 0.00048375129699707031f, 7.5495336204767227e-08f,
                                      2.5633440682570896e-12f};
  static constexpr float kTrigBound = 6000;
  // (exp(r) - 1 - r) / r^2, |r| <= ln 2 / 2
  static constexpr float kExp[] = {0.49999997f, 0.16666539f, 0.0416677445f, 0.00836706255f,
                                   0.00138392416f};
  // (2 atanh(s) / s - 2) / s^2, s <= 3 - 2 sqrt 2, in s^2
  static constexpr float kLog[] = {0.666666627f, 0.400009722f, 0.284988075f, 0.242781788f};
  // (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4, |r| <= pi / 4, in r^2
  static constexpr float kSin[] = {-0.166666552f, 0.0083321901f, -0.000195184053f};
  static constexpr float kCos[] = {0.0416666679f, -0.00138889824f, 2.48229699e-05f,
                                   -2.89744861e-07f};
  // erf(x) / x - 1, |x| <= 1, in x^2
  static constexpr float kErf[] = {0.128379166f,   -0.376126289f,    0.112836182f,   -0.0268551223f,
                                   0.00519071659f, -0.000803050934f, 7.91918792e-05f};
  // Normal tail: (t + c) exp(t^2 / 2) P(N > t), t >= 0, in v = (t - c) / (t + c)
  static constexpr float kTailCentre = 2.5f;
  static constexpr float kTail[] = {
      0.706656635f, -0.433692008f,  0.131986976f,    0.00923587568f,   -0.0163861848f,
      -0.00160083f, 0.00252393261f, 0.000684412662f, -0.000311622774f, -0.000157702292f};
  static constexpr float kTailEnd = 15, kErfEnd = 4;  // the tail is 0 there, erf 1
};

template <>
struct Format<double> {
  using Int = int64_t;
  using UInt = uint64_t;
  static constexpr int kMantissaBits = 52, kBias = 1023;
  static constexpr double kMinNormal = 0x1p-1022, kRound = 0x1.8p52;
  static constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kExpLow = -746, kExpHigh = 710, kExpm1Low = -38, kTanhHigh = 19.1,
                          kTiny = 0x1p-55, kExpPlain = 708, kSigmoidLow = -747, kSigmoidHigh = 300;
  static constexpr double kHalfPi[] = {1.5707963267341256, 6.077100506303966e-11,
                                       2.0222662487111665e-21, 8.4784276603688996e-32};
  static constexpr double kTrigBound = 1e6;
  static constexpr double kExp[] = {0.5,
                                    0.16666666666666677,
                                    0.041666666666666706,
                                    0.0083333333333219222,
                                    0.0013888888888858293,
                                    0.00019841269885886127,
                                    2.4801587343752175e-05,
                                    2.7557244044592712e-06,
                                    2.7557392646387291e-07,
                                    2.5109141831293634e-08,
                                    2.0811402526783986e-09};
  static constexpr double kLog[] = {0.6666666666666734,  0.39999999999415614, 0.28571428742420624,
                                    0.22222198551490943, 0.18183566218043581, 0.15313985595150409,
                                    0.14796744757266778};
  static constexpr double kSin[] = {-0.16666666666666632,    0.0083333333333224548,
                                    -0.00019841269829813394, 2.7557313687565919e-06,
                                    -2.5050756713364037e-08, 1.589668178927936e-10};
  static constexpr double kCos[] = {0.041666666666666588,   -0.0013888888888874444,
                                    2.4801587289642392e-05, -2.7557314389474075e-07,
                                    2.0875727348544807e-09, -1.135981787742374e-11};
  static constexpr double kErf[] = {
      0.12837916709551259,     -0.37612638903183748,    0.11283791670954882,
      -0.026866170645077358,   0.0052239776248231163,   -0.0008548326981104537,
      0.00012055331120705613,  -1.4925595465380529e-05, 1.6461003366214708e-06,
      -1.6350340111855394e-07, 1.4659938996918844e-08,  -1.1373403931361755e-09,
      5.9579871104082921e-11};
  static constexpr double kTailCentre = 4;
  static constexpr double kTail[] = {
      0.7552851304157515,      -0.60789664197189208,    0.38713740074221947,
      -0.18652185795966542,    0.060396574890666264,    -0.0075401889664351591,
      -0.0034796923616067562,  0.0016308184532797584,   0.00013334424852304039,
      -0.00023109490371533929, -1.9078439694127841e-06, 3.5144569668266268e-05,
      7.1497550849062395e-07,  -5.9200112610976241e-06, -6.2522840268490901e-07,
      1.0218572065627699e-06,  2.6415450594872643e-07,  -1.5659211495370718e-07,
      -7.7210375049362114e-08, 1.60692628175183e-08,    1.4618999773366621e-08,
      -3.3904824202059343e-10, -1.1965354628025561e-09};
  static constexpr double kTailEnd = 39, kErfEnd = 6;
};

template <class T>
using Int = typename Format<T>::Int;
template <class T>
using IntVec = Vec<Int<T>>;
template <class T>
using UInt = typename Format<T>::UInt;
template <class T>
using UIntVec = Vec<UInt<T>>;

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

// tanh |x| = (1 - e) / (1 + e), e = exp(-2 |x|) = s + s (exp(r) - 1), where s = 2^n loses nothing:
// each sum is rounded once. n is so small that one product with ln 2 is as good as two, if it is
// not rounded itself.
template <class T, int N>
DL_INLINE Pack<T, N> tanh(Pack<T, N> x) {
  using F = Format<T>;
  constexpr T round = F::kRound + F::kBias;
  const Pack<T, N> t =
      each(x, [](Vec<T> x) { return at_least<T>(negative_absolute<T>(x), -F::kTanhHigh); });
  const Pack<T, N> turns = t * T(2.885390081777926774) + round, n = turns - round;
  const Pack<T, N> r = kFused ? t + t - n * T(0.69314718055994530942)
                              : (t + t - n * F::kLn2High) - n * F::kLn2Low;
  const Pack<T, N> s = Reduced<T, N>{turns, r}.power_of_two(), q = expm1_of_reduced(r);
  return each(((T(1) - s) - q * s) / ((T(1) + s) + q * s), x, with_sign<T>);
}

template <class T>
inline Vec<T> tanh(Vec<T> x) {
  return tanh(Pack<T, 1>{x}).v[0];
}

// 1 / (1 + exp(-x)) as d / (d + d exp(-x)) with a d that keeps d exp(-x) = s + s (exp(r) - 1)
// normal for all clamped x. s = 2^n is added last, as it may be so large that all else is lost.
template <class T, int N>
DL_INLINE Pack<T, N> sigmoid(Pack<T, N> x) {
  using F = Format<T>;
  constexpr int shift = F::kBias / 4;
  constexpr T d = sizeof(T) == 4 ? T(0x1p-31) : T(0x1p-255);
  const Pack<T, N> t = each(x, [](Vec<T> x) {
    return at_most<T>(at_least<T>(x, F::kSigmoidLow), F::kSigmoidHigh);
  });
  const Reduced<T, N> reduced = reduce_exp(T(-1) * t, F::kBias - shift);
  const Pack<T, N> s = reduced.power_of_two();
  return d / ((expm1_of_reduced(reduced.r) * s + d) + s);
}

template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
  return sigmoid(Pack<T, 1>{x}).v[0];
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
