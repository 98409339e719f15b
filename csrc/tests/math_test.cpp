// Error of every function of math.h against libm in higher precision, in ulp: float over every
// STEP-th bit pattern (against double), double at random bit patterns and ranges (against long
// double); and IEEE special values.
//   g++ -std=c++20 -O3 -march=x86-64-v3 -fno-math-errno -fno-trapping-math -ffp-contract=fast
//   -Wno-psabi -DDL_LEVEL=avx2 -Icsrc csrc/tests/math_test.cpp -o math_test && ./math_test [STEP]
// Other levels: -march=x86-64-v2 -DDL_LEVEL=baseline, -march=x86-64-v4 -DDL_LEVEL=avx512;
// -DDL_VECTOR_BYTES=64 as well.
#include "cpu/math.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

using namespace dl::DL_LEVEL;

static int failures = 0;

template <class T>
using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;

// |y - exact| in units of the last place of T at exact; equal infinities and NaNs count as 0
template <class T>
double ulp_error(T y, Wide<T> exact) {
  if (std::isnan(exact) || std::isnan(y)) return std::isnan(exact) && std::isnan(y) ? 0 : 1e30;
  if (T(exact) == y) {
    if (y == 0 && exact == 0 && std::signbit(y) != std::signbit(exact)) return 1e30;
    if (std::isinf(y)) return 0;
  }
  if (std::isinf(y) || std::isinf(T(exact))) {
    Wide<T> limit = std::numeric_limits<T>::max();  // an overflow one step too early or late
    Wide<T> a = std::isinf(y) ? std::copysign(limit, Wide<T>(y)) : Wide<T>(y);
    Wide<T> b = std::abs(exact) > limit ? std::copysign(limit, exact) : exact;
    return ulp_error<T>(T(a), b) + 1;
  }
  int e;
  std::frexp(exact, &e);
  int low = std::numeric_limits<T>::min_exponent, digits = std::numeric_limits<T>::digits;
  return double(std::abs(Wide<T>(y) - exact) / std::ldexp(Wide<T>(1), std::max(e, low) - digits));
}

template <class T>
struct Worst {
  double error = 0;
  T x = 0, x2 = 0, y = 0;
  Wide<T> exact = 0;
};

// v scaled to [2^k, 2^(k+1)); zero, infinities and NaN as they are
template <class T>
T with_exponent(T v, int k) {
  return v == 0 || !std::isfinite(v) ? v : std::ldexp(v, k - std::ilogb(v));
}

template <class T, class F, class G>
void check(const char* name, double bound, int64_t n, F vector_function, G exact_function) {
  constexpr int kN = kLanes<T>;
  Worst<T> worst;
  std::mt19937_64 random(1);
  for (int64_t i = 0; i < n; i += kN) {
    Vec<T> x, x2;
    for (int j = 0; j < kN; ++j) {
      if constexpr (sizeof(T) == 4) {
        uint32_t b = uint32_t((i + j) * (0x100000000 / n)), b2 = uint32_t(random());
        float v, v2;
        std::memcpy(&v, &b, 4);
        std::memcpy(&v2, &b2, 4);
        x[j] = v;
        x2[j] = i & (3 * kN) ? with_exponent(v2, int(random() % 10) - 4) : v2;
      } else {
        uint64_t b = random(), b2 = random();
        double v, v2;
        std::memcpy(&v, &b, 8);
        std::memcpy(&v2, &b2, 8);
        int k = i & (3 * kN) ? int(random() % 24) - 12 : 2000;  // most points of modest size
        x[j] = k > 20 ? v : with_exponent(v, k);
        x2[j] = k > 20 ? v2 : with_exponent(v2, int(random() % 16) - 6);
      }
    }
    Vec<T> y = vector_function(x, x2);
    for (int j = 0; j < kN; ++j) {
      Wide<T> exact = exact_function(Wide<T>(x[j]), Wide<T>(x2[j]));
      double error = ulp_error<T>(y[j], exact);
      if (!(error <= worst.error)) worst = {error, x[j], x2[j], y[j], exact};
    }
  }
  bool bad = !(worst.error <= bound);
  std::printf("%-8s %-6s %6.3f ulp (bound %.1f) at %.9g, %.9g: %.17Lg%s\n", name,
              sizeof(T) == 4 ? "float" : "double", worst.error, bound, double(worst.x),
              double(worst.x2), (long double)worst.y, bad ? "  FAILED" : "");
  failures += bad;
}

// f(x[, x2]) must be exactly y, signs of zero included
template <class T, class F>
void special(const char* name, F f, T x, T x2, T y) {
  T r = f(broadcast<T>(0) + x, broadcast<T>(0) + x2)[kLanes<T> - 1];
  if (x == 0 && std::signbit(x)) r = f(Vec<T>(-broadcast<T>(0)), broadcast<T>(0) + x2)[0];
  bool same = std::isnan(y) ? std::isnan(r) : r == y && std::signbit(r) == std::signbit(y);
  if (same) return;
  std::printf("%s(%g, %g): expected %g, got %g  FAILED\n", name, double(x), double(x2), double(y),
              double(r));
  ++failures;
}

template <class T>
void check_all(int64_t n, const double (&bound)[12]) {
  using V = Vec<T>;
  using W = Wide<T>;
#define DL_CHECK(i, name, exact) \
  check<T>(#name, bound[i], n, [](V x, V) { return name<T>(x); }, [](W x, W) -> W { return exact; })
  DL_CHECK(0, exp, std::exp(x));
  DL_CHECK(1, expm1, std::expm1(x));
  DL_CHECK(2, log, std::log(x));
  DL_CHECK(3, log1p, std::log1p(x));
  DL_CHECK(4, tanh, std::tanh(x));
  DL_CHECK(5, sigmoid, x > 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)));
  DL_CHECK(6, erf, std::erf(x));
  DL_CHECK(7, sin, std::sin(x));
  DL_CHECK(8, cos, std::cos(x));
#undef DL_CHECK
  check<T>(
      "pow", bound[9], n, [](V x, V y) { return pow<T>(x, y); },
      [](W x, W y) { return std::pow(x, y); });
  check<T>(
      "pow |x|", bound[9], n, [](V x, V y) { return pow<T>(absolute<T>(x), y); },
      [](W x, W y) { return std::pow(std::abs(x), y); });
  check<T>(
      "normal", bound[10], n,
      [](V x, V) {
        Pack<T, 1> density;
        return normal(Pack<T, 1>{x}, density).v[0];
      },
      [](W x, W) { return std::erfc(-x / std::sqrt(W(2))) / 2; });
  constexpr T low = -Format<T>::kBias / 2, high = Format<T>::kBias + kUnitShift<T>;
  check<T>(
      "1/(1+2^x)", bound[11], n,
      [](V x, V) {
        x = at_most<T>(at_least<T>(x, low), high);
        return inverse_1_plus_exp2(Pack<T, 1>{x}).v[0];
      },
      [](W x, W) -> W {
        return std::isnan(x) ? x : 1 / (1 + std::exp2(std::clamp(x, W(low), W(high))));
      });
}

template <class T>
void check_special() {
  using V = Vec<T>;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const T tiny = std::numeric_limits<T>::denorm_min(), big = std::numeric_limits<T>::max();
#define DL_SPECIAL(name, x, y) special<T>(#name, [](V a, V) { return name<T>(a); }, x, T(0), y)
  DL_SPECIAL(exp, inf, inf);
  DL_SPECIAL(exp, -inf, T(0));
  DL_SPECIAL(exp, nan, nan);
  DL_SPECIAL(exp, T(-0.0), T(1));
  DL_SPECIAL(expm1, inf, inf);
  DL_SPECIAL(expm1, -inf, T(-1));
  DL_SPECIAL(expm1, T(-0.0), T(-0.0));
  DL_SPECIAL(expm1, tiny, tiny);
  DL_SPECIAL(log, T(0), -inf);
  DL_SPECIAL(log, T(-0.0), -inf);
  DL_SPECIAL(log, inf, inf);
  DL_SPECIAL(log, T(-1), nan);
  DL_SPECIAL(log, nan, nan);
  DL_SPECIAL(log, T(1), T(0));
  DL_SPECIAL(log1p, T(-1), -inf);
  DL_SPECIAL(log1p, inf, inf);
  DL_SPECIAL(log1p, T(-2), nan);
  DL_SPECIAL(log1p, T(-0.0), T(-0.0));
  DL_SPECIAL(log1p, tiny, tiny);
  DL_SPECIAL(log1p, nan, nan);
  DL_SPECIAL(tanh, inf, T(1));
  DL_SPECIAL(tanh, -inf, T(-1));
  DL_SPECIAL(tanh, nan, nan);
  DL_SPECIAL(tanh, tiny, tiny);
  DL_SPECIAL(tanh, T(-0.0), T(-0.0));
  DL_SPECIAL(sigmoid, inf, T(1));
  DL_SPECIAL(sigmoid, -inf, T(0));
  DL_SPECIAL(sigmoid, nan, nan);
  DL_SPECIAL(sigmoid, T(0), T(0.5));
  DL_SPECIAL(erf, inf, T(1));
  DL_SPECIAL(erf, -inf, T(-1));
  DL_SPECIAL(erf, nan, nan);
  DL_SPECIAL(erf, T(-0.0), T(-0.0));
  DL_SPECIAL(sin, inf, nan);
  DL_SPECIAL(sin, nan, nan);
  DL_SPECIAL(sin, T(-0.0), T(-0.0));
  DL_SPECIAL(sin, tiny, tiny);
  DL_SPECIAL(sin, big, T(std::sin(Wide<T>(big))));
  DL_SPECIAL(cos, -inf, nan);
  DL_SPECIAL(cos, nan, nan);
  DL_SPECIAL(cos, T(0), T(1));
#undef DL_SPECIAL
  const T values[] = {T(0), T(-0.0), T(1), T(-1), T(2), T(-2), T(0.5), T(-0.5),
                      T(3), T(-3),   inf,  -inf,  nan,  big,   -big,   tiny};
  for (T x : values)
    for (T y : values) {
      T exact = std::pow(x, y);
      if (exact == 0 || std::isinf(exact) || std::isnan(exact) || std::abs(exact) == 1)
        special<T>("pow", [](V a, V b) { return pow<T>(a, b); }, x, y, exact);
    }
}

// exp, its slow way included, gives an element the same bits whatever lies beside it.
template <class T>
void check_neighbours() {
  constexpr int kN = kPack * kLanes<T>;
  const int before = failures;
  for (int i = 0; i < 100000; ++i) {
    Pack<T, kPack> calm, wild;
    T x[kN], y[kN], z[kN];
    for (int k = 0; k < kN; ++k)
      x[k] = T((i * 7 + k * 1013) % 1601 - 800) * T(Format<T>::kExpPlain / 801);
    std::memcpy(&calm, x, sizeof x);
    for (int k = 0; k < kN; ++k) x[k] = k % 5 == 3 ? T(1e4) : x[k];
    std::memcpy(&wild, x, sizeof x);
    calm = exp(calm), wild = exp(wild);
    std::memcpy(y, &calm, sizeof y);
    std::memcpy(z, &wild, sizeof z);
    for (int k = 0; k < kN; ++k) failures += k % 5 == 3 ? !std::isinf(z[k]) : y[k] != z[k];
  }
  if (failures > before) std::printf("exp depends on its neighbours  FAILED\n");
}

int main(int argc, char** argv) {
  int64_t step = argc > 1 ? std::atoll(argv[1]) : 257;
  //                      exp expm1 log log1p tanh sigmoid erf sin cos pow normal 1/(1+2^x)
  const double f[] = {1.2, 1.8, 1, 1, 2, 2, 1.5, 1.7, 1.7, 0.6, 7.5, 2.5};
  const double d[] = {1.2, 2.1, 1, 1, 2.1, 2, 1.5, 1.9, 1.9, 1.31, 7.5, 2.5};
  check_all<float>((0x100000000 / step + 63) / 64 * 64, f);
  check_all<double>(0x100000000 / step / 8, d);
  check_special<float>();
  check_special<double>();
  check_neighbours<float>();
  check_neighbours<double>();
  std::printf(failures ? "%d FAILED\n" : "ok\n", failures);
  return failures != 0;
}
