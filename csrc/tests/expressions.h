// What the tests of expressions share: the operations in double, random programs of them, and
// failures that are counted.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "common/expression.h"

using namespace dl;

inline int failures = 0;
inline std::mt19937 random_bits(7);

inline int64_t pick(int64_t low, int64_t high) {
  return low + int64_t(random_bits() % uint64_t(high - low + 1));
}
inline double pick_real() { return (double(random_bits()) / 4294967296.0 - 0.5) * 6; }

inline void expect(bool good, const std::string& what) {
  if (good) return;
  if (++failures < 30) std::printf("FAILED: %s\n", what.c_str());
}

struct OpName {
  const char* name;
  int n_in, n_out;
};
inline const OpName kOpNames[] = {
#define DL_OP(name, inputs, outputs) {#name, inputs, outputs},
#include "opcodes.def"
#undef DL_OP
};
constexpr int kOpNameCount = sizeof kOpNames / sizeof kOpNames[0];

inline double phi(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

inline double python_mod(double x, double y) {
  double r = std::fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

// x with `digits` binary digits, the least one of exponent `least`, halves to even.
inline double rounded(double x, int digits, int least, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const double unit = std::ldexp(1, std::max(std::ilogb(x) + 1 - digits, least));
  const double y = std::nearbyint(x / unit) * unit;
  return std::abs(y) > largest ? std::copysign(INFINITY, x) : y;
}

// The operation in double, out of the definitions in opcodes.def.
inline void reference(const std::string& op, const double* s, double* d) {
  const double x = s[0], y = s[1], z = s[2], nan = std::nan("");
  auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  if (op == "identity")
    d[0] = x;
  else if (op == "add")
    d[0] = x + y;
  else if (op == "subtract")
    d[0] = x - y;
  else if (op == "multiply")
    d[0] = x * y;
  else if (op == "divide")
    d[0] = x / y;
  else if (op == "maximum")
    d[0] = x != x || y != y ? nan : std::max(x, y);
  else if (op == "minimum")
    d[0] = x != x || y != y ? nan : std::min(x, y);
  else if (op == "power")
    d[0] = std::pow(x, y);
  else if (op == "floor_divide")
    d[0] = y == 0 ? x / y : std::rint((x - python_mod(x, y)) / y);
  else if (op == "mod")
    d[0] = python_mod(x, y);
  else if (op == "negative")
    d[0] = -x;
  else if (op == "abs")
    d[0] = std::abs(x);
  else if (op == "sign")
    d[0] = x != x ? x : (x > 0) - (x < 0);
  else if (op == "sqrt")
    d[0] = std::sqrt(x);
  else if (op == "rsqrt")
    d[0] = 1 / std::sqrt(x);
  else if (op == "square")
    d[0] = x * x;
  else if (op == "reciprocal")
    d[0] = 1 / x;
  else if (op == "exp")
    d[0] = std::exp(x);
  else if (op == "expm1")
    d[0] = std::expm1(x);
  else if (op == "log")
    d[0] = std::log(x);
  else if (op == "log1p")
    d[0] = std::log1p(x);
  else if (op == "tanh")
    d[0] = std::tanh(x);
  else if (op == "sigmoid")
    d[0] = sigmoid(x);
  else if (op == "erf")
    d[0] = std::erf(x);
  else if (op == "sin")
    d[0] = std::sin(x);
  else if (op == "cos")
    d[0] = std::cos(x);
  else if (op == "floor")
    d[0] = std::floor(x);
  else if (op == "ceil")
    d[0] = std::ceil(x);
  else if (op == "round")
    d[0] = std::nearbyint(x);
  else if (op == "trunc")
    d[0] = std::trunc(x);
  else if (op == "round_bf16")
    d[0] = rounded(x, 8, -133, 0x1.fep127);
  else if (op == "round_f16")
    d[0] = rounded(x, 11, -24, 65504);
  else if (op == "relu")
    d[0] = x < 0 ? 0 : x;
  else if (op == "less")
    d[0] = x < y;
  else if (op == "less_equal")
    d[0] = x <= y;
  else if (op == "greater")
    d[0] = x > y;
  else if (op == "greater_equal")
    d[0] = x >= y;
  else if (op == "equal")
    d[0] = x == y;
  else if (op == "not_equal")
    d[0] = x != y;
  else if (op == "logical_and")
    d[0] = x != 0 && y != 0;
  else if (op == "logical_or")
    d[0] = x != 0 || y != 0;
  else if (op == "logical_not")
    d[0] = x == 0;
  else if (op == "isnan")
    d[0] = x != x;
  else if (op == "isfinite")
    d[0] = std::isfinite(x);
  else if (op == "where")
    d[0] = x != 0 ? y : z;
  else if (op == "multiply_add")
    d[0] = x * y + z;
  else if (op == "softplus")
    d[0] = std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))) + (x != x ? x : 0);
  else if (op == "silu")
    d[0] = x == -INFINITY ? -0.0 : x * sigmoid(x);
  else if (op == "silu_grad")
    d[0] = std::isinf(y) ? (y > 0 ? x : x * 0.0) : x * sigmoid(y) * (1 + y * (1 - sigmoid(y)));
  else if (op == "gelu")
    d[0] = x == -INFINITY ? -0.0 : x * phi(x);
  else if (op == "gelu_grad")
    d[0] = std::isinf(y) ? (y > 0 ? x : x * 0.0)
                         : x * (phi(y) + y * std::exp(-y * y / 2) * 0.3989422804014327);
  else if (op == "gelu_tanh")
    d[0] =
        x == -INFINITY ? -0.0 : x * sigmoid(x * (1.5957691216057307 + 0.07135481627260025 * x * x));
  else if (op == "gelu_tanh_grad") {
    const double t = sigmoid(y * (1.5957691216057307 + 0.07135481627260025 * y * y));
    const double slope = y * (1.5957691216057307 + 0.21406444881780073 * y * y);
    d[0] = std::abs(y) > 40 ? (y > 0 ? x : x * 0.0) : x * (t + t * (1 - t) * slope);
  } else if (op == "sigmoid_grad")
    d[0] = x * y * (1 - y);
  else if (op == "tanh_grad")
    d[0] = x * (1 - y * y);
  else if (op == "relu_grad")
    d[0] = y > 0 ? x : 0;
  else if (op == "momentum_update")
    d[1] = s[4] * s[2] - s[3] * s[1], d[0] = s[0] + d[1];
  else if (op == "adam_update") {
    d[1] = s[2] + (s[1] - s[2]) * s[5], d[2] = s[3] + (s[1] * s[1] - s[3]) * s[6];
    d[0] = s[0] - s[4] * d[1] / (std::sqrt(d[2]) + s[7]);
  } else {
    expect(false, "no reference for " + op);
  }
}

inline bool close(double got, double exact, double scale, double tolerance) {
  if (std::isnan(exact) || std::isnan(got)) return std::isnan(exact) && std::isnan(got);
  if (std::isinf(exact) || std::isinf(got)) return got == exact;
  return std::abs(got - exact) <= tolerance * (std::abs(exact) + scale);
}

struct Program {
  int n_out, n_in, n_const, n_temp;
  std::vector<int64_t> ints;
  std::vector<double> constants;
  std::vector<std::pair<int, std::vector<int>>> ops;  // opcode, ids

  // Smooth operations only, so that rounding cannot flip a comparison
  void make(bool wide, int outputs, int inputs) {
    static const char* const names[] = {"add",     "subtract",     "multiply", "tanh",
                                        "maximum", "multiply_add", "abs",      "sigmoid"};
    n_out = outputs, n_in = inputs, n_const = int(pick(0, 2)), n_temp = int(pick(1, 4));
    constants.clear(), ops.clear();
    for (int i = 0; i < n_const; ++i) constants.push_back(float(pick_real()));
    const int first = n_in + n_const, n_ops = int(pick(0, 6));
    ints = {wide, n_out, n_in, n_const, n_temp, n_ops};
    std::vector<int> known;
    for (int i = 0; i < first; ++i) known.push_back(i);
    for (int op = 0; op < n_ops; ++op) {
      const std::string name = names[pick(0, 7)];
      const int code = int(
          std::find_if(kOpNames, kOpNames + kOpNameCount, [&](auto& o) { return name == o.name; }) -
          kOpNames);
      std::vector<int> ids = {first + int(pick(0, n_temp - 1))};
      for (int i = 0; i < kOpNames[code].n_in; ++i)
        ids.push_back(known[pick(0, int64_t(known.size()) - 1)]);
      known.push_back(ids[0]);
      ops.push_back({code, ids});
      ints.push_back(code);
      ints.insert(ints.end(), ids.begin(), ids.end());
    }
    for (int o = 0; o < n_out; ++o)
      ints.push_back(
          known[pick(0, 3) ? int64_t(known.size()) - 1 : pick(0, int64_t(known.size()) - 1)]);
  }
  std::vector<double> results(std::vector<double> values) const {
    values.insert(values.end(), constants.begin(), constants.end());
    values.resize(n_in + n_const + n_temp);
    for (auto& [code, ids] : ops) {
      double s[8] = {}, d[3];
      for (size_t i = 1; i < ids.size(); ++i) s[i - 1] = values[ids[i]];
      reference(kOpNames[code].name, s, d);
      values[ids[0]] = d[0];
    }
    std::vector<double> r;
    for (int o = 0; o < n_out; ++o) r.push_back(values[ints[ints.size() - n_out + o]]);
    return r;
  }
};

inline int report() {
  std::printf(failures ? "%d FAILED\n" : "ok\n", failures);
  return failures != 0;
}
