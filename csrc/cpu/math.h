// Vector mathematics: one text for float and double and every lane count, free of branches but for
// huge sin and cos and results of exp that are not normal numbers (exp_log.h). Right for NaN,
// +-Inf, +-0, subnormal inputs and results, overflow and underflow. Worst errors measured
// (math_test.cpp holds the bounds; float over the range of bit patterns, double at random points;
// with and without FMA alike):
//
//                    float ulp  double ulp
//   exp                1.2        1.2     x = n ln 2 + r, polynomial in r
//   expm1              1.6        2.0     the same, with 2^n - 1 added apart
//   log, log1p         0.8        0.8     x = 2^k (1 + f), atanh(f / (2 + f)) as in fdlibm
//   tanh               1.9        2.1     (s - e) / (s + e), s = 2^n, s / e = exp(2 |x|)
//   sigmoid            2.0        2.0     1 / (1 + exp(-x)), arranged for small results
//   1 / (1 + 2^x)      2.3        2.4     exp2 as a polynomial of x - n
//   erf                1.3        1.4     odd polynomial to 1, then 1 - 2 exp(-x^2) * scaled tail
//   sin, cos           1.5        1.5     three-step reduction to 6000 (1e6 in double), libm beyond
//   pow                0.51       1.31   float through double; double with log to 2^-62
//   normal             5.9        7.0     cumulative normal probability, relative error kept
//                                         tails (for gelu)
#pragma once

#include "cpu/exp_log.h"

namespace dl::DL_LEVEL {

// exp(t^2 / 2) P(N > t) for t >= 0, N standard normal: a smooth function without cancellation
// anywhere
template <class T, int N>
DL_INLINE Pack<T, N> scaled_tail(Pack<T, N> t) {
  constexpr T c = Format<T>::kTailCentre;
  const Pack<T, N> w = T(1) / (t + c);
  return w * polynomial(T(1) - T(2 * c) * w, Format<T>::kTail);
}

// exp(-t^2 / 2), with the rounding error of t^2 put right; by way of a larger number, as that may
// be subnormal
template <class T, int N>
DL_INLINE Pack<T, N> gaussian(Pack<T, N> t) {
  constexpr int far = Format<T>::kBias / 2;
  constexpr T back = sizeof(T) == 4 ? T(0x1p-63) : T(0x1p-511);
  const Pack<T, N> h = t * t;
  const Pack<T, N> low = each(t, h, [](Vec<T> t, Vec<T> h) { return product_error<T>(t, t, h); });
  const Reduced<T, N> reduced = reduce_exp(T(-0.5) * h, Format<T>::kBias + far);
  return exp_of_reduced(reduced.r - T(0.5) * low) * reduced.power_of_two() * back;
}

template <class T, int N>
DL_INLINE Pack<T, N> erf(Pack<T, N> x) {
  using F = Format<T>;
  const Pack<T, N> t =
      each(x, [](Vec<T> x) { return at_most<T>(absolute<T>(x), Format<T>::kErfEnd); });
  const Pack<T, N> z = t * t;
  const Reduced<T, N> reduced = reduce_exp(T(-1) * z, F::kBias);
  const Pack<T, N> e = exp_of_reduced(reduced.r) * reduced.power_of_two(),
                   big = T(1) - T(2) * e * scaled_tail(t * T(1.41421356237309504880)),
                   small = t + t * polynomial(z, F::kErf);
  Pack<T, N> y;
  for (int k = 0; k < N; ++k) y.v[k] = with_sign<T>(t.v[k] < T(1) ? small.v[k] : big.v[k], x.v[k]);
  return y;
}

template <class T>
inline Vec<T> erf(Vec<T> x) {
  return erf(Pack<T, 1>{x}).v[0];
}

// The normal distribution at x: cumulative probability, and density without its factor
template <class T, int N>
DL_INLINE Pack<T, N> normal(Pack<T, N> x, Pack<T, N>& density) {
  const Pack<T, N> t =
      each(x, [](Vec<T> x) { return at_most<T>(absolute<T>(x), Format<T>::kTailEnd); });
  density = gaussian(t);
  return each(density * scaled_tail(t), x,
              [](Vec<T> q, Vec<T> x) { return x < T(0) ? q : T(1) - q; });
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
  const auto reduced = reduce_exp(Pack<double, 1>{e});
  return scale<double>(exp_of_reduced(reduced.r + Pack<double, 1>{e_low}).v[0], reduced);
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
