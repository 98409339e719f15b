// Expressions, pointwise, reduce and arg_reduce against scalar references: every operation, sizes
// around the lane count, random programs over random layouts and dtypes, in-place updates, same
// bits for any cut, hostile code.
//   g++ -std=c++20 -O3 -march=x86-64-v3 -fno-math-errno -fno-trapping-math -ffp-contract=fast
//   -Wno-psabi -DDL_LEVEL=avx2 -Icsrc csrc/tests/expression_test.cpp
//   csrc/cpu/kernels/{expression,copy,pointwise,reduce,arg_reduce}.cpp -o expression_test &&
//   ./expression_test
// Other levels: -march=x86-64-v2 -DDL_LEVEL=baseline, -march=x86-64-v4 -DDL_LEVEL=avx512; also
// -DDL_VECTOR_BYTES=64, and -O1 -fsanitize=address,undefined.
#include "cpu/kernels/expression.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpu/kernels/level.h"

using namespace dl;
using namespace dl::DL_LEVEL;

static int failures = 0;
static std::mt19937 random_bits(7);

static int64_t pick(int64_t low, int64_t high) {
  return low + int64_t(random_bits() % uint64_t(high - low + 1));
}
static double pick_real() { return (double(random_bits()) / 4294967296.0 - 0.5) * 6; }

static void expect(bool good, const std::string& what) {
  if (good) return;
  if (++failures < 30) std::printf("FAILED: %s\n", what.c_str());
}

struct OpName {
  const char* name;
  int n_in, n_out;
};
static const OpName kOpNames[] = {
#define DL_OP(name, inputs, outputs) {#name, inputs, outputs},
#include "opcodes.def"
#undef DL_OP
};
constexpr int kOpNameCount = sizeof kOpNames / sizeof kOpNames[0];

static double phi(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

static double python_mod(double x, double y) {
  double r = std::fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

// x with `digits` binary digits, the least one of exponent `least`, halves to even.
static double rounded(double x, int digits, int least, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const double unit = std::ldexp(1, std::max(std::ilogb(x) + 1 - digits, least));
  const double y = std::nearbyint(x / unit) * unit;
  return std::abs(y) > largest ? std::copysign(INFINITY, x) : y;
}

// The operation in double, out of the definitions in opcodes.def.
static void reference(const std::string& op, const double* s, double* d) {
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

static bool close(double got, double exact, double scale, double tolerance) {
  if (std::isnan(exact) || std::isnan(got)) return std::isnan(exact) && std::isnan(got);
  if (std::isinf(exact) || std::isinf(got)) return got == exact;
  return std::abs(got - exact) <= tolerance * (std::abs(exact) + scale);
}

// ---- every operation on dense runs, with the special values among the inputs ----

template <class T>
static void evaluate_run(const std::vector<int64_t>& ints, int64_t n,
                         std::vector<std::vector<T>>& out, std::vector<std::vector<T>>& in,
                         int64_t offset = 0) {
  Expression e;
  const char* wrong = decode(ints.data(), int(ints.size()), nullptr, 0, e);
  expect(!wrong, wrong ? wrong : "");
  if (wrong) return;
  std::vector<T> registers(register_elements<T>(e, 1, n));
  prepare<T>(e, 1, n, registers.data());
  std::vector<Operand> o, i;
  const DType type = sizeof(T) == 4 ? DType::f32 : DType::f64;
  for (auto& v : out) o.push_back({reinterpret_cast<char*>(v.data() + offset), type, 0, 1});
  for (auto& v : in) i.push_back({reinterpret_cast<char*>(v.data() + offset), type, 0, 1});
  evaluate<T>(e, 1, n, o.data(), i.data(), registers.data());
}

template <class T>
static void test_operation(int code) {
  const auto [name, n_in, n_out] = kOpNames[code];
  const std::string op = name;
  std::vector<int64_t> ints = {sizeof(T) == 8, n_out, n_in, 0, n_out, 1, code};
  for (int i = 0; i < n_out; ++i) ints.push_back(n_in + i);
  for (int i = 0; i < n_in; ++i) ints.push_back(i);
  for (int i = 0; i < n_out; ++i) ints.push_back(n_in + i);
  // the last are halves of the last bits of bfloat16 and float16, and what is too large for float16
  const double special[] = {0,         -0.0,  1,     -1,    INFINITY, -INFINITY, std::nan(""),
                            0.5,       -2.5,  1e15,  -1e15, 0x1.01p0, 0x1.03p0,  0x1.002p0,
                            0x1.006p0, 65519, 65520, 1e-7,  0x1p-25,  0x3p-25,   0x1p-130};
  for (int64_t n = 1; n < 4 * kLanes<T> + 2; ++n) {
    std::vector<std::vector<T>> in(n_in, std::vector<T>(n)), out(n_out, std::vector<T>(n)),
        single = out;
    for (auto& v : in)
      for (auto& x : v) x = T(n_in <= 3 && pick(0, 3) == 0 ? special[pick(0, 20)] : pick_real());
    if (op == "adam_update")
      for (auto& x : in[3]) x = std::abs(x);
    if (op == "adam_update")
      for (int k : {5, 6, 7})
        for (auto& x : in[k]) x = std::abs(x) / 4;
    evaluate_run<T>(ints, n, out, in);
    for (int64_t i = 0; i < n; ++i) {
      evaluate_run<T>(ints, 1, single, in, i);  // each element as a tail of its own: the same bits
      double s[8] = {}, d[3] = {};
      for (int k = 0; k < n_in; ++k) s[k] = in[k][i];
      reference(op, s, d);
      for (int k = 0; k < n_out; ++k) {
        const double exact = T(d[k]);
        const double scale =
            n_in > 1 && op != "power" ? 3 + std::abs(std::isfinite(s[0]) ? s[0] : 0) : 1e-30;
        expect(close(out[k][i], exact, scale, sizeof(T) == 4 ? 1e-6 : 1e-14),
               op + "(" + std::to_string(s[0]) + ", " + std::to_string(s[1]) + "): expected " +
                   std::to_string(exact) + ", got " + std::to_string(out[k][i]));
        expect(std::isnan(out[k][i]) || std::memcmp(&out[k][i], &single[k][i], sizeof(T)) == 0,
               op + ": a tail has other bits at " + std::to_string(s[0]) + ", " +
                   std::to_string(s[1]));
      }
    }
  }
}

// ---- random tensors and programs ----

struct Array {
  std::vector<char> memory;
  Tensor tensor;

  // Any layout: permuted axes, gaps, negative strides; broadcast axes if `broadcast`.
  void make(DType dtype, int rank, const int64_t* shape, bool broadcast) {
    tensor = {nullptr, dtype, rank, {}, {}};
    std::vector<int> order(rank);
    for (int d = 0; d < rank; ++d) order[d] = d;
    if (pick(0, 2) == 0) std::shuffle(order.begin(), order.end(), random_bits);
    int64_t step = pick(0, 3) ? 1 : 2, low = 0, high = 0;
    for (int d : std::vector<int>(order.rbegin(), order.rend())) {
      tensor.shape[d] = shape[d];
      int64_t stride = broadcast && pick(0, 2) == 0 ? 0 : pick(0, 9) == 0 ? -step : step;
      tensor.stride[d] = stride;
      (stride < 0 ? low : high) += stride * std::max<int64_t>(shape[d] - 1, 0);
      if (stride) step *= std::max<int64_t>(shape[d], 1) + (pick(0, 5) == 0);
    }
    memory.assign((high - low + 1) * size_of(dtype), 0);
    tensor.data = memory.data() - low * size_of(dtype);
    for (int64_t i = 0; i <= high - low; ++i) set(memory.data() + i * size_of(dtype), pick_real());
  }
  void set(char* p, double x) const {
    switch (tensor.dtype) {
      case DType::f32: {
        float v = float(x);
        std::memcpy(p, &v, 4);
        break;
      }
      case DType::f64:
        std::memcpy(p, &x, 8);
        break;
      case DType::i32: {
        int32_t v = int32_t(x);
        std::memcpy(p, &v, 4);
        break;
      }
      case DType::i64: {
        int64_t v = int64_t(x);
        std::memcpy(p, &v, 8);
        break;
      }
      case DType::u8: {
        uint8_t v = uint8_t(int32_t(x));
        std::memcpy(p, &v, 1);
        break;
      }
      default: {
        uint8_t v = x != 0;
        std::memcpy(p, &v, 1);
        break;
      }
    }
  }
  double get(const int64_t* index) const {
    int64_t offset = 0;
    for (int d = 0; d < tensor.rank; ++d) offset += index[d] * tensor.stride[d];
    const char* p = tensor.data + offset * size_of(tensor.dtype);
    switch (tensor.dtype) {
      case DType::f32: {
        float v;
        std::memcpy(&v, p, 4);
        return v;
      }
      case DType::f64: {
        double v;
        std::memcpy(&v, p, 8);
        return v;
      }
      case DType::i32: {
        int32_t v;
        std::memcpy(&v, p, 4);
        return v;
      }
      case DType::i64: {
        int64_t v;
        std::memcpy(&v, p, 8);
        return double(v);
      }
      default:
        return uint8_t(*p);
    }
  }
};

// Calls f(index) for every element.
template <class F>
static void each(int rank, const int64_t* shape, F f) {
  int64_t index[kMaxRank] = {}, n = 1;
  for (int d = 0; d < rank; ++d) n *= shape[d];
  for (int64_t i = 0; i < n; ++i) {
    f(index);
    for (int d = rank - 1; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
  }
}

struct Kernel1 {
  const char* (*plan)(const Call&, Work&);
  void (*run)(const Call&, int, int64_t, int64_t, char*);
};

// Runs all phases, cut into runs of `step` parts that go backwards: the order must not matter.
static const char* run_kernel(const Kernel1& k, std::vector<Tensor> tensors,
                              const std::vector<int64_t>& ints, const std::vector<double>& floats,
                              int64_t step) {
  Call call{tensors.data(), int(tensors.size()), ints.data(), int(ints.size()),
            floats.data(),  int(floats.size()),  nullptr};
  std::vector<Tensor> blank = tensors;
  for (auto& t : blank) t.data = nullptr;
  call.tensors = blank.data();
  Work work;
  if (const char* wrong = k.plan(call, work)) return wrong;
  call.tensors = tensors.data();
  std::vector<double> scratch(work.scratch_bytes / 8 + 1, NAN),
      shared(work.shared_bytes / 8 + 1, NAN);
  call.shared = reinterpret_cast<char*>(shared.data());
  for (int phase = 0; phase < work.phases; ++phase)
    for (int64_t end = work.parts[phase]; end > 0; end -= std::min(step, end))
      k.run(call, phase, std::max<int64_t>(end - step, 0), end,
            reinterpret_cast<char*>(scratch.data()));
  return nullptr;
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

static void random_shape(int& rank, int64_t* shape) {
  rank = int(pick(0, 4));
  int64_t size = 1;
  for (int d = 0; d < rank; size *= std::max<int64_t>(shape[d++], 1))
    shape[d] = pick(0, 3) || size > 100 ? pick(1, 7) : pick(0, 90);
  if (pick(0, 39) == 0) rank = 2, shape[0] = pick(1, 400), shape[1] = pick(1, 200);
  if (pick(0, 39) == 0) rank = 1, shape[0] = pick(1, 40000);
}

static void test_pointwise() {
  const Kernel1 kernel{plan_pointwise, run_pointwise};
  for (int round = 0; round < 500; ++round) {
    int rank;
    int64_t shape[kMaxRank];
    random_shape(rank, shape);
    Program p;
    const bool wide = pick(0, 1);
    p.make(wide, int(pick(1, 3)), int(pick(1, 4)));
    const DType type = wide ? DType::f64 : DType::f32;
    std::vector<Array> arrays(p.n_out + p.n_in);
    for (int i = 0; i < p.n_out + p.n_in; ++i)
      arrays[i].make(pick(0, 2)    ? type
                     : i < p.n_out ? DType(pick(0, 1))
                                   : DType(pick(0, 5)),
                     rank, shape, i >= p.n_out);
    const bool in_place = pick(0, 2) == 0;  // first output over first input
    Array before = arrays[p.n_out];
    if (in_place) {
      arrays[0].make(type, rank, shape, false);
      before = arrays[0];
      before.tensor.data = before.memory.data() + (arrays[0].tensor.data - arrays[0].memory.data());
      arrays[p.n_out].tensor = arrays[0].tensor;
    } else {
      before.tensor.data =
          before.memory.data() + (arrays[p.n_out].tensor.data - arrays[p.n_out].memory.data());
    }
    bool swaps = false;  // a result that is an input in the place of another output
    for (int o = 0; o < p.n_out; ++o)
      swaps |= in_place && o > 0 && p.ints[p.ints.size() - p.n_out + o] == 0;
    if (swaps && p.ints[p.ints.size() - p.n_out] < p.n_in) continue;
    std::vector<Tensor> tensors;
    for (auto& a : arrays) tensors.push_back(a.tensor);
    const char* wrong = run_kernel(kernel, tensors, p.ints, p.constants, pick(1, 5));
    expect(!wrong, wrong ? wrong : "");
    if (wrong) continue;
    each(rank, shape, [&](const int64_t* index) {
      std::vector<double> values;
      for (int i = 0; i < p.n_in; ++i)
        values.push_back((i == 0 ? before : arrays[p.n_out + i]).get(index));
      std::vector<double> exact = p.results(values);
      for (int o = 0; o < p.n_out; ++o)
        expect(close(arrays[o].get(index), exact[o], 10, 2e-5),
               "pointwise round " + std::to_string(round) + " output " + std::to_string(o) +
                   ": expected " + std::to_string(exact[o]) + ", got " +
                   std::to_string(arrays[o].get(index)));
    });
  }
}

// adam_update with the settings as scalars, in place; then with one of them an array
static void test_update() {
  const Kernel1 kernel{plan_pointwise, run_pointwise};
  const int code = int(std::find_if(kOpNames, kOpNames + kOpNameCount,
                                    [](auto& o) { return std::string(o.name) == "adam_update"; }) -
                       kOpNames);
  for (int64_t n : {1, 7, 16, 1000, 40001})
    for (bool scalar : {true, false}) {
      std::vector<float> x[8];
      for (int k = 0; k < 8; ++k)
        for (int64_t i = 0; i < (k < 4 || (k == 4 && !scalar) ? n : 1); ++i)
          x[k].push_back(float(std::abs(pick_real()) / 3));  // v stays positive: shares are below 1
      auto before = x[0], m = x[2], v = x[3];
      std::vector<Tensor> t;
      for (int k : {0, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7})
        t.push_back({reinterpret_cast<char*>(x[k].data()),
                     DType::f32,
                     1,
                     {n},
                     {int64_t(x[k].size()) == n && n > 1}});
      run_kernel(kernel, t, {0, 3, 8, 0, 3, 1, code, 8, 9, 10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
                 {}, 1);
      for (int64_t i = 0; i < n; ++i) {
        double s[8] = {before[i], x[1][i], m[i],   v[i], x[4][scalar ? 0 : i],
                       x[5][0],   x[6][0], x[7][0]},
               d[3];
        reference("adam_update", s, d);
        expect(close(x[0][i], d[0], 1, 1e-5) && close(x[2][i], d[1], 1, 1e-5) &&
                   close(x[3][i], d[2], 1, 1e-5),
               "adam_update");
      }
    }
}

// An output that is stored past the caches, from an address off the vector's boundary
static void test_large() {
  const Kernel1 kernel{plan_pointwise, run_pointwise};
  const int64_t n = (9 << 20) + 13;
  std::vector<float> x(n), y(n + 1);
  for (int64_t i = 0; i < n; ++i) x[i] = float(i);
  Tensor out{reinterpret_cast<char*>(y.data() + 1), DType::f32, 1, {n}, {1}},
      in{reinterpret_cast<char*>(x.data()), DType::f32, 1, {n}, {1}};
  run_kernel(kernel, {out, in, in}, {0, 1, 2, 0, 1, 1, 1, 2, 0, 1, 2}, {}, 7);
  bool good = true;
  for (int64_t i = 0; i < n; ++i) good &= y[i + 1] == 2 * float(i);
  expect(good, "pointwise: a large output is wrong");
}

static void test_reduce() {
  const Kernel1 kernel{plan_reduce, run_reduce};
  for (int round = 0; round < 500; ++round) {
    int rank;
    int64_t shape[kMaxRank], out_shape[kMaxRank];
    random_shape(rank, shape);
    Program p;
    const bool wide = pick(0, 1);
    p.make(wide, 1, int(pick(1, 3)));
    const int kind = int(pick(0, 3));
    const DType type = wide ? DType::f64 : DType::f32;
    for (int d = 0; d < rank; ++d) out_shape[d] = pick(0, 1) ? 1 : shape[d];
    std::vector<Array> arrays(1 + p.n_in);
    arrays[0].make(type, rank, out_shape, false);
    for (int i = 0; i < p.n_in; ++i)
      arrays[1 + i].make(pick(0, 2) ? type : DType(pick(0, 5)), rank, shape, true);
    std::vector<Tensor> tensors;
    for (auto& a : arrays) tensors.push_back(a.tensor);
    std::vector<int64_t> ints = p.ints;
    ints.insert(ints.begin(), kind);
    const char* wrong = run_kernel(kernel, tensors, ints, p.constants, pick(1, 5));
    expect(!wrong, wrong ? wrong : "");
    if (wrong) continue;
    Array exact = arrays[0], scale = arrays[0];
    std::vector<double> sums, sizes;
    each(rank, out_shape, [&](const int64_t* at) {
      double sum = kind == 3 ? 1 : kind == 1 ? -INFINITY : kind == 2 ? INFINITY : 0, size = 0;
      int64_t inner[kMaxRank];
      for (int d = 0; d < rank; ++d) inner[d] = out_shape[d] == 1 ? shape[d] : 1;
      each(rank, inner, [&](const int64_t* offset) {
        int64_t index[kMaxRank];
        for (int d = 0; d < rank; ++d) index[d] = at[d] + offset[d];
        std::vector<double> values;
        for (int i = 0; i < p.n_in; ++i) values.push_back(arrays[1 + i].get(index));
        const double x = p.results(values)[0];
        sum = kind == 0   ? sum + x
              : kind == 1 ? std::max(sum, x)
              : kind == 2 ? std::min(sum, x)
                          : sum * x;
        size += kind == 3 ? std::abs(std::log2(std::abs(x))) : std::abs(x);
      });
      const double got = arrays[0].get(at), limit = wide ? 1e-11 : kind == 3 ? 1e-3 : 1e-5;
      if (kind == 3 && !(size < (wide ? 900 : 100))) return;  // lanes may overflow
      expect(close(got, sum, kind == 3 ? 1e-30 : size + 10, limit),
             "reduce round " + std::to_string(round) + " kind " + std::to_string(kind) +
                 ": expected " + std::to_string(sum) + ", got " + std::to_string(got));
    });
  }
}

// A row's sum has the same bits whatever the number of rows and the cut; NaN passes through max and
// min.
static void test_reduce_bits() {
  const Kernel1 kernel{plan_reduce, run_reduce};
  for (int64_t cols : {1, 3, 10, 16, 100, 1000, 5000, 50000}) {
    const int64_t rows = 37;
    std::vector<float> x(rows * cols), all(rows), one(1), cut(rows);
    for (auto& v : x) v = float(pick_real());
    const std::vector<int64_t> ints = {0, 0, 1, 1, 0, 0, 0, 0};
    auto sum = [&](std::vector<float>& y, int64_t n, int64_t first, int64_t step) {
      Tensor out{reinterpret_cast<char*>(y.data()), DType::f32, 2, {n, 1}, {1, 1}};
      Tensor in{
          reinterpret_cast<char*>(x.data() + first * cols), DType::f32, 2, {n, cols}, {cols, 1}};
      run_kernel(kernel, {out, in}, ints, {}, step);
    };
    sum(all, rows, 0, 1000);
    sum(cut, rows, 0, 1);
    expect(std::memcmp(all.data(), cut.data(), rows * 4) == 0, "reduce: bits depend on the cut");
    for (int64_t r = 0; r < rows; ++r) {
      sum(one, 1, r, 1);
      expect(one[0] == all[r],
             "reduce: bits of a row depend on the number of rows, cols " + std::to_string(cols));
    }
    for (int64_t kind : {1, 2}) {
      x[pick(0, rows * cols - 1)] = NAN;
      Tensor out{reinterpret_cast<char*>(one.data()), DType::f32, 1, {1}, {1}};
      Tensor in{reinterpret_cast<char*>(x.data()), DType::f32, 1, {rows * cols}, {1}};
      run_kernel(kernel, {out, in}, {kind, 0, 1, 1, 0, 0, 0, 0}, {}, 3);
      expect(std::isnan(one[0]), "reduce: NaN lost in max or min");
    }
  }
}

static void test_arg_reduce() {
  const Kernel1 kernel{plan_arg_reduce, run_arg_reduce};
  for (int round = 0; round < 1000; ++round) {
    int rank;
    int64_t shape[kMaxRank], out_shape[kMaxRank];
    random_shape(rank, shape);
    if (rank == 0) rank = 1, shape[0] = 5;
    const int axis = int(pick(0, rank - 1));
    shape[axis] = std::max<int64_t>(shape[axis], 1);
    std::copy(shape, shape + rank, out_shape);
    out_shape[axis] = 1;
    Array in, out;
    in.make(DType(pick(0, 5)), rank, shape, true);
    for (auto& x : {0.5, 2.0, double(NAN)})  // ties, and NaN
      for (int64_t i = 0, n = int64_t(in.memory.size()) / size_of(in.tensor.dtype); i < n / 20; ++i)
        if (!std::isnan(x) || (in.tensor.dtype <= DType::f64 && pick(0, 9) == 0))
          in.set(in.memory.data() + pick(0, n - 1) * size_of(in.tensor.dtype), x);
    out.make(pick(0, 1) ? DType::i64 : DType::i32, rank, out_shape, false);
    const int64_t kind = pick(0, 1);
    const char* wrong = run_kernel(kernel, {out.tensor, in.tensor}, {kind}, {}, pick(1, 4));
    expect(!wrong, wrong ? wrong : "");
    each(rank, out_shape, [&](const int64_t* at) {
      int64_t index[kMaxRank], best = 0;
      std::copy(at, at + rank, index);
      double value = in.get(index);
      for (int64_t i = 1; i < shape[axis] && !std::isnan(value); ++i) {
        index[axis] = i;
        const double x = in.get(index);
        if (std::isnan(x) || (kind == 0 ? x > value : x < value)) value = x, best = i;
      }
      expect(out.get(at) == double(best), "arg_reduce round " + std::to_string(round) +
                                              ": expected " + std::to_string(best) + ", got " +
                                              std::to_string(out.get(at)));
    });
  }
}

// Whatever the integers are: refused, or safe to run (under ASan).
static void test_hostile() {
  const int64_t extremes[] = {-1, 0, 1, 2, 63, 64, 65, kOpNameCount, 1 << 30, INT64_MAX, INT64_MIN};
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    Program p;
    p.make(false, int(pick(1, 2)), int(pick(1, 3)));
    for (int64_t k = pick(0, 2); k > 0; --k)
      p.ints[pick(0, int64_t(p.ints.size()) - 1)] =
          pick(0, 2) ? pick(0, 12) : extremes[pick(0, 10)];
    if (pick(0, 5) == 0) p.ints.resize(pick(0, int64_t(p.ints.size())));
    Expression e;
    if (decode(p.ints.data(), int(p.ints.size()), p.constants.data(), int(p.constants.size()), e))
      continue;
    ++accepted;
    std::vector<float> data((e.n_out + e.n_in) * 40, 1.0f),
        registers(register_elements<float>(e, 2, 20));
    std::vector<Operand> operands;
    for (int i = 0; i < e.n_out + e.n_in; ++i)
      operands.push_back({reinterpret_cast<char*>(data.data() + i * 40), DType::f32, 20, 1});
    prepare<float>(e, 2, 20, registers.data());
    evaluate<float>(e, 2, 20, operands.data(), operands.data() + e.n_out, registers.data());
  }
  expect(accepted > 200, "hostile: too few programs accepted to mean anything");
}

int main(int argc, char** argv) {
  auto wanted = [&](const char* name) { return argc < 2 || std::string(argv[1]) == name; };
  if (wanted("operation"))
    for (int code = 0; code < kOpNameCount; ++code)
      test_operation<float>(code), test_operation<double>(code);
  if (wanted("update")) test_update();
  if (wanted("hostile")) test_hostile();
  if (wanted("pointwise")) test_pointwise(), test_large();
  if (wanted("reduce")) test_reduce(), test_reduce_bits();
  if (wanted("arg_reduce")) test_arg_reduce();
  std::printf(failures ? "%d FAILED\n" : "ok\n", failures);
  return failures != 0;
}
