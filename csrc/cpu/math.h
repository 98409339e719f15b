// Vector mathematics: one text for float and double and every lane count, free of branches but for
// huge sin and cos. Right for NaN, +-Inf, +-0, subnormal inputs and results, overflow and
// underflow. Worst errors measured (math_test.cpp holds the bounds; float over the range of bit
// patterns, double at random points; with and without FMA alike):
//
//                    float ulp  double ulp
//   exp                1.2        1.2     x = n ln 2 + r, polynomial in r, scaled in two steps
//   expm1              1.7        2.0     the same, with 2^n - 1 added apart
//   log, log1p         0.8        0.8     x = 2^k (1 + f), series of atanh(f / (2 + f)) as in
//   fdlibm tanh               2.5        2.5     m / (m + 2), m = expm1(2 |x|)
//   sigmoid            2.3        2.2     1 / (1 + exp(-x)), arranged for small results
//   erf                1.3        1.4     odd polynomial to 1, then 1 - 2 exp(-x^2) * scaled tail
//   sin, cos           1.5        1.5     three-step reduction to 6000 (1e6 in double), libm beyond
//   pow                0.51       1.3     float through double; double with log to 2^-62
//   normal             5.9        7.0     cumulative normal probability, relative error kept in
//   both tails (for gelu)
#pragma once

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
                          kTiny = 0x1p-55;
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
inline Vec<T> polynomial(Vec<T> x, const T (&c)[N]) {
  Vec<T> y = broadcast<T>(c[N - 1]);
#pragma GCC unroll 32
  for (int i = N - 2; i >= 0; --i) y = y * x + c[i];
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

// Masks of vector comparisons are all ones or zero a lane.
template <class M>
inline bool any(M mask) {
  typedef uint64_t Half __attribute__((vector_size(16)));
  Half h[sizeof mask / 16], all{};
  std::memcpy(h, &mask, sizeof mask);
  for (auto part : h) all |= part;
  return (all[0] | all[1]) != 0;
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

// x = n ln 2 + r, |r| <= ln 2 / 2, for |x| <= kExpHigh or so; `exponent` is n where a number has its
// exponent.
template <class T>
struct Reduced {
  Vec<T> n, r;
  UIntVec<T> exponent;  // wraps around
};

template <class T>
inline Reduced<T> reduce_exp(Vec<T> x) {
  using F = Format<T>;
  Vec<T> rounded = x * T(1.442695040888963387) + F::kRound, n = rounded - F::kRound;
  return {n, (x - n * F::kLn2High) - n * F::kLn2Low, (UIntVec<T>)rounded << F::kMantissaBits};
}

// 2^(n + more) where that is a normal number
template <class T>
inline Vec<T> power_of_two(const Reduced<T>& x, int more = 0) {
  using F = Format<T>;
  return (Vec<T>)(x.exponent + (UInt<T>(F::kBias + more) << F::kMantissaBits));
}

// p 2^n for any n that reduce_exp makes, subnormal and infinite results included: through a number
// in the middle of the range
template <class T>
inline Vec<T> scale(Vec<T> p, const Reduced<T>& x) {
  using F = Format<T>;
  constexpr int far = F::kBias / 2;
  constexpr T back = sizeof(T) == 4 ? T(0x1p63) : T(0x1p511);
  const auto down = x.n < T(0);
  const UIntVec<T> to = down ? UIntVec<T>{} + (UInt<T>(F::kBias + far) << F::kMantissaBits)
                             : UIntVec<T>{} + (UInt<T>(F::kBias - far) << F::kMantissaBits);
  return p * (Vec<T>)(x.exponent + to) * (down ? broadcast<T>(1 / back) : broadcast<T>(back));
}

template <class T>
inline Vec<T> exp_of_reduced(Vec<T> r) {
  return (polynomial<T>(r, Format<T>::kExp) * r + T(1)) * r + T(1);
}

template <class T>
inline Vec<T> exp(Vec<T> x) {
  using F = Format<T>;
  const auto reduced = reduce_exp<T>(at_most<T>(at_least<T>(x, F::kExpLow), F::kExpHigh));
  return scale<T>(exp_of_reduced<T>(reduced.r), reduced);
}

// exp(z) for z <= 0 without the care that results below the normal range need: they are 0.
template <class T>
inline Vec<T> exp_nonpositive(Vec<T> z) {
  constexpr T low = sizeof(T) == 4 ? -87 : -708;
  const auto below = z < low;
  const Reduced<T> x = reduce_exp<T>(at_least<T>(z, low));
  return below ? Vec<T>{} : exp_of_reduced<T>(x.r) * power_of_two<T>(x);
}

// exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1)
template <class T>
inline Vec<T> expm1(Vec<T> x) {
  using F = Format<T>;
  const auto reduced = reduce_exp<T>(at_most<T>(at_least<T>(x, F::kExpm1Low), F::kExpHigh));
  const Vec<T> r = reduced.r;
  Vec<T> p = r * r * polynomial<T>(r, F::kExp) + r;
  Vec<T> s = power_of_two<T>(reduced, -1);  // 2^n itself would overflow first
  Vec<T> y = (p * s + (s - T(0.5))) * T(2);
  return absolute<T>(x) < F::kTiny ? x : y;
}

// tanh |x| = m / (m + 2), m = exp(2 |x|) - 1
template <class T>
inline Vec<T> tanh(Vec<T> x) {
  using F = Format<T>;
  Vec<T> t = at_most<T>(absolute<T>(x), F::kTanhHigh);
  const auto reduced = reduce_exp<T>(t + t);
  const Vec<T> r = reduced.r;
  Vec<T> p = r * r * polynomial<T>(r, F::kExp) + r;
  Vec<T> s = power_of_two<T>(reduced);
  Vec<T> m = p * s + (s - T(1));
  return copy_sign<T>(m / (m + T(2)), x);
}

// 1 / (1 + exp(-x)); exp of -|x| neither overflows nor loses small results
template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
  using F = Format<T>;
  const auto reduced = reduce_exp<T>(at_least<T>(negative_absolute<T>(x), F::kExpLow));
  constexpr int far = F::kBias / 2;  // as in scale, where n is negative
  constexpr T back = sizeof(T) == 4 ? T(0x1p-63) : T(0x1p-511);
  Vec<T> e = exp_of_reduced<T>(reduced.r) * power_of_two<T>(reduced, far) * back;
  return (x < T(0) ? e : broadcast<T>(1)) / (e + T(1));
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

// exp(t^2 / 2) P(N > t) for t >= 0, N standard normal: a smooth function without cancellation
// anywhere
template <class T>
inline Vec<T> scaled_tail(Vec<T> t) {
  constexpr T c = Format<T>::kTailCentre;
  Vec<T> w = T(1) / (t + c);
  return w * polynomial<T>(T(1) - T(2 * c) * w, Format<T>::kTail);
}

// exp(-t^2 / 2), with the rounding error of t^2 put right
template <class T>
inline Vec<T> gaussian(Vec<T> t) {
  Vec<T> h = t * t, low = product_error<T>(t, t, h);
  const auto reduced = reduce_exp<T>(T(-0.5) * h);
  return scale<T>(exp_of_reduced<T>(reduced.r - T(0.5) * low), reduced);
}

template <class T>
inline Vec<T> erf(Vec<T> x) {
  using F = Format<T>;
  Vec<T> t = at_most<T>(absolute<T>(x), F::kErfEnd);
  Vec<T> z = t * t;
  const auto reduced = reduce_exp<T>(-z);
  Vec<T> e = exp_of_reduced<T>(reduced.r) * power_of_two<T>(reduced);
  Vec<T> big = T(1) - T(2) * e * scaled_tail<T>(t * T(1.41421356237309504880));
  Vec<T> y = t < T(1) ? t + t * polynomial<T>(z, F::kErf) : big;
  return copy_sign<T>(y, x);
}

// The normal distribution at x: density without its factor, and cumulative probability
template <class T>
struct Normal {
  Vec<T> e, cumulative;
};

template <class T>
inline Normal<T> normal(Vec<T> x) {
  Vec<T> t = at_most<T>(absolute<T>(x), Format<T>::kTailEnd);
  Vec<T> e = gaussian<T>(t), q = e * scaled_tail<T>(t);
  return {e, x < T(0) ? q : T(1) - q};
}

// x = n pi / 2 + r; libm does what lies beyond kTrigBound, where n times the parts of pi / 2 is no
// longer exact
template <class T>
inline Vec<T> sine(Vec<T> x, int quarters) {
  using F = Format<T>;
  Vec<T> turns = x * T(0.63661977236758138243) + F::kRound, n = turns - F::kRound;
  Vec<T> r = x - n * F::kHalfPi[0], lost{};
#pragma GCC unroll 3
  for (int i = 1; i < 4; ++i) {
    Vec<T> part = n * F::kHalfPi[i], next = r - part;
    lost += (r - next) - part;
    r = next;
  }
  r += lost;
  Vec<T> z = r * r;
  Vec<T> s = r * z * polynomial<T>(z, F::kSin) + r;
  Vec<T> c = z * z * polynomial<T>(z, F::kCos) - T(0.5) * z + T(1);
  IntVec<T> q = (IntVec<T>)turns + Int<T>(quarters);
  Vec<T> y = (q & 1) != 0 ? c : s;
  return (Vec<T>)((IntVec<T>)y ^ ((q & 2) << (8 * sizeof(T) - 2)));
}

template <class T>
inline Vec<T> sin(Vec<T> x) {
  Vec<T> y = sine<T>(x, 0), t = absolute<T>(x);
  if (any(t > Format<T>::kTrigBound)) [[unlikely]]
    for (int i = 0; i < kLanes<T>; ++i)
      if (t[i] > Format<T>::kTrigBound) y[i] = T(__builtin_sin(x[i]));
  return t < Format<T>::kTiny ? x : y;
}

template <class T>
inline Vec<T> cos(Vec<T> x) {
  Vec<T> y = sine<T>(x, 1), t = absolute<T>(x);
  if (any(t > Format<T>::kTrigBound)) [[unlikely]]
    for (int i = 0; i < kLanes<T>; ++i)
      if (t[i] > Format<T>::kTrigBound) y[i] = T(__builtin_cos(x[i]));
  return y;
}

// exp(y log x) for x >= 0. log x is needed to 2^-62, so as an unevaluated sum of two doubles:
// log x = k ln 2 + 2 s + 2/3 s^3 + s^5 (2/5 + 2/7 s^2 + ...), the first three terms in twice the
// precision
inline Vec<double> pow_positive(Vec<double> x, Vec<double> y) {
  using F = Format<double>;
  using V = Vec<double>;
  constexpr double third = 0x1.5555555555555p-1, third_low = 0x1.5555555555555p-55;  // 2/3
  constexpr double series[] = {2. / 5,  2. / 7,  2. / 9,  2. / 11, 2. / 13,
                               2. / 15, 2. / 17, 2. / 19, 2. / 21, 2. / 23};
  auto small = x < F::kMinNormal;
  auto [k, f] = split_exponent<double>(small ? x * 0x1p52 : x);
  k = small ? k - 52. : k;
  V d = f + 2., d_low = f - (d - 2.), s = f / d, p = s * d;
  V s_low = (f - p - product_error<double>(s, d, p) - s * d_low) / d;
  V z = s * s, z_low = product_error<double>(s, s, z) + 2. * s * s_low;
  V c = s * z, c_low = product_error<double>(s, z, c) + s * z_low + s_low * z;
  V t = c * third,
    t_low = product_error<double>(c, broadcast<double>(third), t) + c * third_low + c_low * third;
  V a = k * F::kLn2High, b = 2. * s, u = a + b, u_low = b - (u - a);  // |a| > |b| or a = 0
  V v = u + t, v_low = t - (v - u);
  V low =
      u_low + v_low + (t_low + 2. * s_low + k * F::kLn2Low + c * z * polynomial<double>(z, series));
  V log = v + low;
  low = low - (log - v);
  log = x > 0. ? (x < __builtin_huge_val() ? log : x) : broadcast<double>(-__builtin_huge_val());
  V e = y * log, e_low = product_error<double>(y, log, e) + y * low;
  e_low = absolute<double>(e) < 1000. ? e_low : V{};
  e = at_most<double>(at_least<double>(e, F::kExpLow), F::kExpHigh);
  const auto reduced = reduce_exp<double>(e);
  return scale<double>(exp_of_reduced<double>(reduced.r + e_low), reduced);
}

// Through double, half a vector at a time: then one rounding decides the error
inline Vec<float> pow_positive(Vec<float> x, Vec<float> y) {
  typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
  Half a[2], b[2];
  std::memcpy(a, &x, sizeof x);
  std::memcpy(b, &y, sizeof y);
  for (int i = 0; i < 2; ++i) {
    Vec<double> e = __builtin_convertvector(b[i], Vec<double>) *
                    log<double>(__builtin_convertvector(a[i], Vec<double>));
    e = at_most<double>(at_least<double>(e, -200.), 200.);  // 0 and Inf as floats
    a[i] = __builtin_convertvector(exp<double>(e), Half);
  }
  std::memcpy(&x, a, sizeof x);
  return x;
}

// As C's pow: pow(x, 0) = pow(1, y) = 1; a negative x needs an integer y, whose parity decides the
// sign.
template <class T>
inline Vec<T> pow(Vec<T> x, Vec<T> y) {
  Vec<T> t = absolute<T>(x);
  Vec<T> p = pow_positive(t, y);
  Vec<T> half = y * T(0.5);
  auto integer = floor<T>(y) == y, odd = integer & (floor<T>(half) != half);
  constexpr T inf = __builtin_huge_val();
  p = ((x < T(0)) & (x > -inf) & ~integer) ? broadcast<T>(__builtin_nan("")) : p;
  p = (((t == T(1)) & (integer | (x == T(1)))) | (y == T(0))) ? broadcast<T>(1) : p;
  p = odd ? copy_sign<T>(p, x) : p;
  return x == x ? p : (y == T(0) ? broadcast<T>(1) : x);
}

}  // namespace dl::DL_LEVEL
