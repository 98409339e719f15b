// affine_sample and affine_sample_grad against naive loops in double: odd sizes, any strides, every
// interpolation and fill mode, matrices that are not numbers; one part against all, bit for bit.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/kernels/level.h"
#include "tests/check.h"

using namespace dl;

static std::mt19937_64 generator(1);
static double random_in(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(generator);
}

// A tensor with exactly its memory; `gaps` puts an unused element behind each and reverses the last
// axis.
struct Array {
  std::vector<char> memory;
  Tensor t{};

  Array(DType dtype, std::vector<int64_t> shape, bool gaps = false) {
    t.dtype = dtype;
    t.rank = int(shape.size());
    int64_t run = gaps ? 2 : 1;
    for (int a = t.rank - 1; a >= 0; --a) t.shape[a] = shape[a], t.stride[a] = run, run *= shape[a];
    memory.assign((run + 1) * size_of(dtype), 0x5A);
    t.data = memory.data();
    if (gaps && shape.back() > 0) {
      t.data += (shape.back() - 1) * 2 * size_of(dtype);
      t.stride[t.rank - 1] = -2;
    }
  }
  int64_t at(int64_t a, int64_t b, int64_t c = 0, int64_t d = 0) const {
    const int64_t i[] = {a, b, c, d};
    int64_t sum = 0;
    for (int k = 0; k < t.rank; ++k) sum += i[k] * t.stride[k];
    return sum;
  }
  double get(int64_t i) const {
    return t.dtype == DType::f32 ? t.as<float>()[i] : t.as<double>()[i];
  }
  void set(int64_t i, double x) {
    if (t.dtype == DType::f32)
      t.as<float>()[i] = float(x);
    else
      t.as<double>()[i] = x;
  }
};

using Kernel2 = void (*)(const Call&, int, int64_t, int64_t, char*);
using Plan = const char* (*)(const Call&, Work&);

static void run(Plan plan, Kernel2 kernel, const Call& call, bool apart) {
  Work work;
  const char* wrong = plan(call, work);
  if (wrong) std::printf("%s\n", wrong);
  CHECK(!wrong && work.phases == 1);
  if (!apart) return kernel(call, 0, 0, work.parts[0], nullptr);
  for (int64_t p = work.parts[0] - 1; p >= 0; --p) kernel(call, 0, p, p + 1, nullptr);
}

static int64_t place(int64_t i, int64_t n, int64_t mode) {
  while (i < 0 || i >= n) {
    if (mode == 0) return -1;
    if (mode == 1) i = i < 0 ? 0 : n - 1;
    if (mode == 2) i = i < 0 ? -1 - i : 2 * n - 1 - i;
    if (mode == 3) i += i < 0 ? n : -n;
    if (mode == 4) i = n == 1 ? 0 : i < 0 ? -i : 2 * n - 2 - i;
  }
  return i;
}

struct Tap {
  int64_t i, j;
  double weight;
};

static std::vector<Tap> taps(const double* m, int64_t i, int64_t j, int64_t interpolation) {
  const double column = m[0] * j + m[1] * i + m[2], row = m[3] * j + m[4] * i + m[5];
  if (interpolation == 0)
    return {{int64_t(std::floor(row + 0.5)), int64_t(std::floor(column + 0.5)), 1}};
  const int64_t r = int64_t(std::floor(row)), c = int64_t(std::floor(column));
  const double a = row - r, b = column - c;
  return {{r, c, (1 - a) * (1 - b)},
          {r, c + 1, (1 - a) * b},
          {r + 1, c, a * (1 - b)},
          {r + 1, c + 1, a * b}};
}

static void test(DType dtype, std::vector<int64_t> size, bool gaps, int64_t interpolation,
                 int64_t mode) {
  const int64_t n = size[0], h = size[1], w = size[2], channels = size[3], p = size[4], q = size[5];
  Array x(dtype, {n, h, w, channels}, gaps), y(dtype, {n, p, q, channels}, gaps),
      m(dtype, {n, 6}, gaps);
  Array again(dtype, {n, p, q, channels}), dx(dtype, {n, h, w, channels}, gaps);
  const double fill = 0.5, tolerance = dtype == DType::f32 ? 2e-5 : 1e-7;
  std::vector<double> sums(n * h * w * channels, 0.0), matrix(n * 6);
  for (int64_t k = 0; k < n; ++k) {
    for (int e = 0; e < 6; ++e) {
      // Multiples of 1/64: all sums are exact, so both sides read the same pixels.
      double value = std::round(random_in(-1.5, 1.5) * (e % 3 == 2 ? 320 : 64)) / 64;
      if (k == 0) value = e == 0 || e == 4 ? 1 : e == 2 ? -1 : e == 5 ? 2 : 0;  // a whole shift
      matrix[k * 6 + e] = value;
      m.set(m.at(k, e), value);
    }
  }
  for (int64_t k = 0; k < n * h * w * channels; ++k)
    x.set(x.at(k / (h * w * channels), k / (w * channels) % h, k / channels % w, k % channels),
          random_in(-1, 1));
  const int64_t ints[] = {interpolation, mode};
  Tensor forward[] = {y.t, x.t, m.t}, second[] = {again.t, x.t, m.t}, backward[] = {dx.t, y.t, m.t};
  Call call{forward, 3, ints, 2, &fill, 1, nullptr};
  run(avx512::plan_affine_sample, avx512::run_affine_sample, call, false);
  call.tensors = second;
  run(avx512::plan_affine_sample, avx512::run_affine_sample, call, true);
  call.tensors = backward;
  run(avx512::plan_affine_sample_grad, avx512::run_affine_sample_grad, call, true);
  for (int64_t k = 0; k < n; ++k)
    for (int64_t i = 0; i < p; ++i)
      for (int64_t j = 0; j < q; ++j)
        for (int64_t c = 0; c < channels; ++c) {
          double sum = 0;
          const double dy = y.get(y.at(k, i, j, c));
          for (const Tap& tap : taps(&matrix[k * 6], i, j, interpolation)) {
            const int64_t r = place(tap.i, h, mode), s = place(tap.j, w, mode);
            const bool there = r >= 0 && s >= 0;
            sum += tap.weight * (there ? x.get(x.at(k, r, s, c)) : fill);
            if (there) sums[((k * h + r) * w + s) * channels + c] += tap.weight * dy;
          }
          CHECK(std::abs(sum - dy) <= tolerance);
          CHECK(again.get(again.at(k, i, j, c)) == dy);
        }
  for (int64_t k = 0; k < n * h * w * channels; ++k) {
    const double got = dx.get(
        dx.at(k / (h * w * channels), k / (w * channels) % h, k / channels % w, k % channels));
    CHECK(std::abs(got - sums[k]) <= tolerance * (1 + std::abs(sums[k])) * 50);
  }
}

// Matrices that are no numbers, or far away, read the border or the fill value.
static void test_wild() {
  for (double wild : {double(NAN), double(INFINITY), -double(INFINITY), 1e30, -1e30}) {
    for (int64_t mode = 0; mode < 5; ++mode) {
      Array x(DType::f32, {1, 3, 4, 2}), y(DType::f32, {1, 5, 6, 2}), m(DType::f32, {1, 6});
      for (int k = 0; k < 24; ++k) x.set(k, k);
      for (int e = 0; e < 6; ++e) m.set(e, wild);
      const int64_t ints[] = {1, mode};
      const double fill = 7;
      Tensor tensors[] = {y.t, x.t, m.t}, back[] = {x.t, y.t, m.t};
      Call call{tensors, 3, ints, 2, &fill, 1, nullptr};
      run(avx512::plan_affine_sample, avx512::run_affine_sample, call, false);
      for (int k = 0; k < 60; ++k) CHECK(y.get(k) >= 0 && y.get(k) < 24);
      call.tensors = back;
      run(avx512::plan_affine_sample_grad, avx512::run_affine_sample_grad, call, false);
    }
  }
}

static void test_refusals() {
  Array x(DType::f32, {2, 3, 4, 1}), y(DType::f32, {2, 3, 4, 1}), m(DType::f32, {2, 6});
  const double fill = 0;
  Work work;
  const auto refused = [&](Tensor out, Tensor in, Tensor matrix, int64_t how, int64_t mode) {
    Tensor tensors[] = {out, in, matrix};
    const int64_t ints[] = {how, mode};
    const Call call{tensors, 3, ints, 2, &fill, 1, nullptr};
    return avx512::plan_affine_sample(call, work) != nullptr;
  };
  CHECK(!refused(y.t, x.t, m.t, 1, 0));
  CHECK(refused(y.t, x.t, m.t, 2, 0) && refused(y.t, x.t, m.t, 1, 5) &&
        refused(y.t, x.t, m.t, -1, 0));
  CHECK(refused(y.t, x.t, x.t, 1, 0));
  CHECK(refused(y.t, x.t, Array(DType::f64, {2, 6}).t, 1, 0));
  CHECK(refused(y.t, x.t, Array(DType::f32, {1, 6}).t, 1, 0));
  CHECK(refused(y.t, Array(DType::f32, {2, 3, 4, 2}).t, m.t, 1, 0));
  CHECK(refused(y.t, Array(DType::f32, {2, 0, 4, 1}).t, m.t, 1, 0));
  Tensor large = x.t;
  large.shape[1] = (1 << 15) + 1;
  CHECK(refused(y.t, large, m.t, 1, 0));
}

int main() {
  const std::vector<std::vector<int64_t>> sizes = {
      {2, 5, 7, 3, 5, 7}, {3, 4, 3, 1, 6, 2}, {2, 1, 1, 5, 3, 3}, {2, 3, 8, 17, 2, 9},
      {0, 3, 3, 1, 3, 3}, {2, 3, 3, 1, 0, 3}, {2, 3, 3, 0, 3, 3}, {9, 40, 30, 1, 41, 33}};
  for (const auto& size : sizes)
    for (DType dtype : {DType::f32, DType::f64})
      for (bool gaps : {false, true})
        for (int64_t how = 0; how < 2; ++how)
          for (int64_t mode = 0; mode < 5; ++mode) test(dtype, size, gaps, how, mode);
  test_wild();
  test_refusals();
  std::puts("ok");
}
