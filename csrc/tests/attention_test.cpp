// attention and attention_grad against naive double loops: odd sizes around the blocks and the
// panels, causal, bias, mask, dropout, shared key heads; many parts against one, bit for bit.
// Memory is exactly as long as it must be, so that the address sanitizer sees a stray access.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "common/philox.h"
#include "cpu/kernels/level.h"
#include "tests/check.h"

using namespace dl;

static std::mt19937_64 generator(1);
static double draw() { return std::uniform_real_distribution<double>(-1, 1)(generator); }

template <class T>
constexpr DType kType = sizeof(T) == 4 ? DType::f32 : DType::f64;

// Dense, with the axes in the order of `shape`; elements by index.
template <class T>
struct Array {
  std::vector<T> x;
  Tensor t{};

  Array(std::initializer_list<int64_t> shape, DType type = kType<T>) {
    t.dtype = type, t.rank = static_cast<int>(shape.size());
    int64_t n = 1, a = 0;
    for (int64_t s : shape) t.shape[a++] = s, n *= s;
    x.resize(n);
    int64_t step = 1;
    for (a = t.rank - 1; a >= 0; step *= t.shape[a--]) t.stride[a] = step;
    t.data = reinterpret_cast<char*>(x.data());
  }
  T& at(int64_t a, int64_t b, int64_t c, int64_t d = 0) {
    const int64_t* s = t.stride;
    return x[a * s[0] + b * s[1] + c * s[2] + (t.rank > 3 ? d * s[3] : 0)];
  }
  void fill() {
    for (T& v : x) v = static_cast<T>(draw());
  }
};

constexpr double kKeep = 0.7;
constexpr int64_t kSeed = 12345678901, kStream = 9;
static int64_t kStep = (int64_t{1} << 32) + 5;  // its low half counts

struct Sizes {
  int64_t b, t, s, n, k, h, d;
};

template <class T>
struct Problem {
  Sizes z;
  bool causal;
  double scale;
  Array<T> q, k, v, dy, bias;
  Array<uint8_t> mask;
  bool has_bias, has_mask, drops;
  Array<T> y, lse, dq, dk, dv;

  Problem(Sizes z, bool causal, bool has_bias, bool has_mask, bool drops)
      : z(z),
        causal(causal),
        scale(1 / std::sqrt(double(z.h))),
        q{z.b, z.t, z.n, z.h},
        k{z.b, z.s, z.k, z.h},
        v{z.b, z.s, z.k, z.d},
        dy{z.b, z.t, z.n, z.d},
        bias{z.b, z.n, z.t, z.s},
        mask({z.b, z.n, z.t, z.s}, DType::b8),
        has_bias(has_bias),
        has_mask(has_mask),
        drops(drops),
        y{z.b, z.t, z.n, z.d},
        lse{z.b, z.n, z.t},
        dq{z.b, z.t, z.n, z.h},
        dk{z.b, z.s, z.k, z.h},
        dv{z.b, z.s, z.k, z.d} {
    q.fill(), k.fill(), v.fill(), dy.fill(), bias.fill();
    for (uint8_t& m : mask.x) m = draw() < 0.2;
  }

  bool seen(int64_t b, int64_t n, int64_t t, int64_t s) {
    return (!causal || s <= t) && (!has_mask || mask.at(b, n, t, s));
  }
  double factor(int64_t b, int64_t n, int64_t t, int64_t s) {
    if (!drops) return 1;
    const uint64_t run = ((b * z.n + n) * z.t + t) * ((z.s + 7) / 8) + s / 8;
    const PhiloxWords w = philox(run, kStream, static_cast<uint32_t>(kStep), kSeed);
    const uint32_t half = w.word[s % 8 / 2] >> s % 2 * 16 & 0xFFFF, kept = kKeep * 0x1p16 + 0.5;
    return half < kept ? 0x1p16 / kept : 0;
  }
};

template <class T>
static void run(void (*kernel)(const Call&, int, int64_t, int64_t, char*),
                const char* (*plan)(const Call&, Work&), std::vector<Tensor> tensors,
                const Problem<T>& p, int64_t step) {
  Tensor counter{};
  counter.dtype = DType::i64, counter.rank = 1, counter.shape[0] = counter.stride[0] = 1;
  counter.data = reinterpret_cast<char*>(&kStep);
  if (p.has_bias) tensors.push_back(p.bias.t);
  if (p.has_mask) tensors.push_back(p.mask.t);
  if (p.drops) tensors.push_back(counter);
  const int64_t ints[] = {p.causal, p.has_bias, p.has_mask, p.drops, kSeed, kStream};
  const double floats[] = {p.scale, kKeep};
  const Call call{tensors.data(), static_cast<int>(tensors.size()), ints, 6, floats, 2, nullptr};
  Work work;
  const char* wrong = plan(call, work);
  if (wrong) std::puts(wrong);
  CHECK(!wrong);
  std::vector<char> scratch(work.scratch_bytes + 64);
  char* aligned = scratch.data() + (-reinterpret_cast<uintptr_t>(scratch.data()) & 63);
  for (int64_t i = 0; i < work.parts[0]; i += step)
    kernel(call, 0, i, std::min(work.parts[0], i + step), aligned);
}

template <class T>
static void run_both(Problem<T>& p, int64_t step) {
  run(DL_LEVEL::run_attention, DL_LEVEL::plan_attention, {p.y.t, p.lse.t, p.q.t, p.k.t, p.v.t}, p,
      step);
  run(DL_LEVEL::run_attention_grad, DL_LEVEL::plan_attention_grad,
      {p.dq.t, p.dk.t, p.dv.t, p.dy.t, p.y.t, p.lse.t, p.q.t, p.k.t, p.v.t}, p, step);
}

static bool near(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * (1 + std::abs(b));
}

template <class T>
static void check(Problem<T>& p) {
  const Sizes& z = p.z;
  const double tolerance = sizeof(T) == 4 ? 3e-5 : 1e-12;
  std::vector<double> dq(p.dq.x.size()), dk(p.dk.x.size()), dv(p.dv.x.size());
  const auto place = [](auto& array, int64_t a, int64_t b, int64_t c, int64_t d) {
    return &array.at(a, b, c, d) - array.x.data();
  };
  for (int64_t b = 0; b < z.b; ++b)
    for (int64_t n = 0; n < z.n; ++n)
      for (int64_t t = 0; t < z.t; ++t) {
        const int64_t g = n / (z.n / z.k);
        std::vector<double> w(z.s);
        double sum = 0, inner = 0;
        for (int64_t s = 0; s < z.s; ++s) {
          double x = 0;
          for (int64_t h = 0; h < z.h; ++h) x += double(p.q.at(b, t, n, h)) * p.k.at(b, s, g, h);
          x = x * p.scale + (p.has_bias ? p.bias.at(b, n, t, s) : 0);
          sum += w[s] = p.seen(b, n, t, s) ? std::exp(x) : 0;
        }
        const double lse = sum > 0 ? std::log(sum) : INFINITY, got = p.lse.at(b, n, t);
        CHECK(lse == got || near(got, lse, tolerance));
        std::vector<double> f(z.s);
        for (int64_t s = 0; s < z.s; ++s) {
          w[s] = sum > 0 ? w[s] / sum : 0;
          f[s] = p.factor(b, n, t, s);
        }
        for (int64_t d = 0; d < z.d; ++d) {
          double y = 0;
          for (int64_t s = 0; s < z.s; ++s) y += f[s] * w[s] * p.v.at(b, s, g, d);
          CHECK(near(p.y.at(b, t, n, d), y, tolerance));
          inner += y * p.dy.at(b, t, n, d);
        }
        for (int64_t s = 0; s < z.s; ++s) {
          double dw = 0;
          for (int64_t d = 0; d < z.d; ++d) {
            dw += f[s] * p.dy.at(b, t, n, d) * p.v.at(b, s, g, d);
            dv[place(p.dv, b, s, g, d)] += f[s] * w[s] * p.dy.at(b, t, n, d);
          }
          const double ds = w[s] * (dw - inner) * p.scale;
          for (int64_t h = 0; h < z.h; ++h) {
            dq[place(p.dq, b, t, n, h)] += ds * p.k.at(b, s, g, h);
            dk[place(p.dk, b, s, g, h)] += ds * p.q.at(b, t, n, h);
          }
        }
      }
  for (size_t i = 0; i < dq.size(); ++i) CHECK(near(p.dq.x[i], dq[i], 5 * tolerance));
  for (size_t i = 0; i < dk.size(); ++i) CHECK(near(p.dk.x[i], dk[i], 5 * tolerance));
  for (size_t i = 0; i < dv.size(); ++i) CHECK(near(p.dv.x[i], dv[i], 5 * tolerance));
}

template <class T>
static void test(Sizes z) {
  for (int kind = 0; kind < 16; ++kind) {
    Problem<T> p(z, kind & 1, kind & 2, kind & 4, kind & 8);
    run_both(p, 1 << 30);
    check(p);
    const auto y = p.y.x, dq = p.dq.x, dk = p.dk.x, dv = p.dv.x;
    run_both(p, 1);
    CHECK(y == p.y.x && dq == p.dq.x && dk == p.dk.x && dv == p.dv.x);
  }
}

int main() {
  const Sizes sizes[] = {{1, 1, 1, 1, 1, 1, 1},    {2, 3, 5, 2, 1, 4, 3},
                         {1, 31, 33, 1, 1, 7, 32}, {1, 96, 97, 2, 2, 8, 8},
                         {1, 97, 95, 1, 1, 17, 5}, {1, 200, 193, 2, 1, 5, 33},
                         {3, 49, 47, 4, 2, 16, 16}};
  for (const Sizes& z : sizes) {
    test<float>(z);
    test<double>(z);
  }
  test<float>({0, 3, 3, 1, 1, 2, 2});
  std::puts("attention: as the formulas");
}
