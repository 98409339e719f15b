// Expressions against scalar references: every operation, sizes around the lane count, the special
// values, the same bits for any place in a block, hostile code.
//   csrc/tests/run.sh expression
#include "cpu/kernels/expression.h"

#include "tests/expressions.h"

using namespace dl::DL_LEVEL;

// Every operation on dense runs, with the special values among the inputs.

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

int main() {
  for (int code = 0; code < kOpNameCount; ++code)
    test_operation<float>(code), test_operation<double>(code);
  test_hostile();
  return report();
}
