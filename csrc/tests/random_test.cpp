// random against the scalar generator: every dtype and kind, any strides; its moments; one part
// against many, bit for bit.        csrc/tests/run.sh random
#include <cstring>

#include "common/philox.h"
#include "tests/kernel_runs.h"

static const Kernel kRandom = DL_TESTED(random);

static void test_philox() {  // known answers of Random123, tests/kat_vectors
  const auto check = [](uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed,
                        std::vector<uint32_t> words) {
    const PhiloxWords w = philox(static_cast<uint64_t>(c1) << 32 | c0, c2, c3, seed);
    for (int k = 0; k < 4; ++k) CHECK(w.word[k] == words[k]);
  };
  check(0, 0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check(~0u, ~0u, ~0u, ~0u, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0x299f31d0a4093822,
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

static double bits53(uint32_t u, uint32_t v) { return (u >> 5) * 67108864.0 + (v >> 6); }

struct Drawn {
  double value, tolerance;
};

// What random must give for element i, from the scalar generator.
static Drawn drawn(DType dtype, const Attributes& a, int64_t step, int64_t i) {
  const auto block = [&](int64_t b) {
    return philox(b, static_cast<uint32_t>(a.ints[2]), static_cast<uint32_t>(step), a.ints[1]);
  };
  const bool f64 = dtype == DType::f64;
  if (a.ints[0] == 2) return {block(i / 4).word[i % 4] < a.floats[0] * 4294967296.0 ? 1.0 : 0.0, 0};
  if (a.ints[0] == 0 && !f64) {
    const float low = static_cast<float>(a.floats[0]), high = static_cast<float>(a.floats[1]);
    const float width = static_cast<float>(static_cast<double>(high) - low);
    const double t = (block(i / 4).word[i % 4] >> 8) / 16777216.0;
    return {std::min(static_cast<float>(low + t * width), std::nextafter(high, low)), 0};
  }
  if (a.ints[0] == 0) {
    const PhiloxWords w = block(i / 2);
    volatile double product = bits53(w.word[2 * (i % 2)], w.word[2 * (i % 2) + 1]) * 0x1p-53 *
                              (a.floats[1] - a.floats[0]);
    return {std::min(product + a.floats[0], std::nextafter(a.floats[1], a.floats[0])), 0};
  }
  const PhiloxWords w = block(f64 ? i / 2 : i / 4);
  const int first = i % 4 / 2 * 2;
  const double u =
      f64 ? (bits53(w.word[0], w.word[1]) + 0.5) * 0x1p-53 : (w.word[first] + 0.5) * 0x1p-32;
  const double v =
      f64 ? bits53(w.word[2], w.word[3]) * 0x1p-53 : (w.word[first + 1] >> 8) / 16777216.0;
  const double radius = std::sqrt(-2 * std::log(u)), angle = 6.283185307179586 * v;
  const double z = radius * (i % 2 ? std::sin(angle) : std::cos(angle));
  const double near_one = u > 0.999 ? 1e-3 : 0;  // log(u) then has few bits in either precision
  return {a.floats[0] + a.floats[1] * z, (8 * (1 + radius) + near_one / epsilon_of(dtype)) *
                                             epsilon_of(dtype) *
                                             (a.floats[1] + std::abs(a.floats[0]))};
}

static void check_random(DType dtype, const Attributes& a, int64_t step, const Shape& shape,
                         int layout) {
  Array out(dtype, shape, layout), counter(DType::i64, {});
  counter.as<int64_t>(0) = step;
  run(kRandom, {&out, &counter}, a);
  for (int64_t i = 0; i < out.size(); ++i) {
    const Drawn d = drawn(dtype, a, step, i);
    CHECK(std::abs(out[i] - d.value) <= d.tolerance);
  }
}

static void test_random() {
  const int64_t seed = static_cast<int64_t>(0xFEDCBA9876543210ull);
  for (int layout = 0; layout < kLayouts; ++layout) {
    for (Shape shape : {Shape{}, Shape{0}, Shape{1}, Shape{3}, Shape{255}, Shape{16, 16},
                        Shape{5, 7, 11}, Shape{40000}}) {
      for (DType dtype : {DType::f32, DType::f64}) {
        check_random(dtype, {{0, seed, 0}, {0, 1}}, 0, shape, layout);
        check_random(dtype, {{0, 7, 0xFFFFFFFF}, {-0.05, 0.05}}, 12345678901234, shape, layout);
        check_random(dtype, {{0, 7, 3}, {1, 1 + 1e-6}}, -1, shape, layout);
        check_random(dtype, {{1, seed, 5}, {0, 1}}, 9, shape, layout);
        check_random(dtype, {{1, 1, 5}, {-3, 0.5}}, 9, shape, layout);
      }
      for (DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::b8}) {
        for (double p : {0.0, 0x1p-33, 0.3, 0.5, 1 - 0x1p-33, 1.0})
          check_random(dtype, {{2, seed, 1}, {p}}, 2, shape, layout);
      }
    }
  }
  Array out(DType::f32, {1 << 20}), counter(DType::i64, {1});
  counter.set(0, 1);
  run(kRandom, {&out, &counter}, {{1, 42, 0}, {0, 1}});
  double sum[5] = {};
  for (int64_t i = 0; i < out.size(); ++i) {
    for (int k = 1; k < 5; ++k) sum[k] += std::pow(out[i], k) / out.size();
  }
  CHECK(std::abs(sum[1]) < 5e-3 && std::abs(sum[2] - 1) < 7e-3 && std::abs(sum[3]) < 2e-2 &&
        std::abs(sum[4] - 3) < 5e-2);
  Array whole(DType::i32, {4});
  CHECK(refuses(kRandom, {&whole, &counter}, {{0, 1, 0}, {0, 1}}) &&
        refuses(kRandom, {&out, &counter}, {{2, 1, 0}, {1.5}}));
  CHECK(refuses(kRandom, {&out, &counter}, {{0, 1, 0}, {1, 0}}) &&
        refuses(kRandom, {&out, &counter}, {{0, 1, 0}, {0, kNaN}}));
  CHECK(refuses(kRandom, {&out, &counter}, {{0, 1, -1}, {0, 1}}) &&
        refuses(kRandom, {&out, &out}, {{0, 1, 0}, {0, 1}}));
}

int main() {
  test_philox();
  test_random();
  std::puts("ok");
}
