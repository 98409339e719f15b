// Large results go past the caches: lines that a kernel has just written are in none of them, which
// shows in the time of reading them; those of smaller results, and of results in place, are there.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "common/expression.h"
#include "cpu/kernels/level.h"
#include "tests/check.h"

using namespace dl;

#define DL_TESTED(name) \
  Kernel { #name, DL_LEVEL::plan_##name, DL_LEVEL::run_##name }
static const Kernel kPointwise = DL_TESTED(pointwise), kLayer = DL_TESTED(layer_norm),
                    kLayerGrad = DL_TESTED(layer_norm_grad);
#undef DL_TESTED

static constexpr int kLine = 64, kTail = 64 << 10;  // bytes: the tail fits every L2

// Nanoseconds per line of the last lines of a result, one after the other in an order that no
// prefetcher foresees.
static double read_tail(const char* end) {
  static std::vector<int> order;
  if (order.empty()) {
    order.resize(kTail / kLine);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
  }
  static volatile int zero = 0;
  const int none = zero;
  const char* const tail = end - kTail;
  int64_t follow = 0;  // each address waits for the line before
  const auto start = std::chrono::steady_clock::now();
  for (const int line : order) follow = tail[line * kLine + follow] & none;
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  return (took.count() + double(follow)) / double(order.size());
}

// How much longer lines take just after the kernel than once they have been read: the median of
// some runs.
static double slowdown(const Kernel& k, std::vector<Tensor> tensors, std::vector<int64_t> ints,
                       std::vector<double> floats) {
  Call call{tensors.data(), int(tensors.size()), ints.data(), int(ints.size()),
            floats.data(),  int(floats.size()),  nullptr};
  Work work;
  CHECK(!k.plan(call, work));
  std::vector<double> shared(work.shared_bytes / 8 + 9), scratch(work.scratch_bytes / 8 + 9);
  call.shared = reinterpret_cast<char*>(shared.data());
  const Tensor& y = tensors[0];
  const char* end = y.data + y.shape[0] * y.shape[1] * size_of(y.dtype);
  std::vector<double> ratios;
  for (int i = 0; i < 7; ++i) {
    for (int phase = 0; phase < work.phases; ++phase)
      k.run(call, phase, 0, work.parts[phase], reinterpret_cast<char*>(scratch.data()));
    const double first = read_tail(end);
    read_tail(end);
    ratios.push_back(first / read_tail(end));
  }
  std::sort(ratios.begin(), ratios.end());
  return ratios[ratios.size() / 2];
}

static Tensor matrix(std::vector<float>& memory, int64_t rows, int64_t cols) {
  memory.assign(rows * cols + 16, 0.5f);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return {reinterpret_cast<char*>((address + kLine - 1) / kLine * kLine),
          DType::f32,
          2,
          {rows, cols},
          {cols, 1}};
}

static Tensor vector_of(std::vector<float>& memory, int64_t n) {
  Tensor t = matrix(memory, 1, n);
  t.rank = 1, t.shape[0] = n, t.stride[0] = 1;
  return t;
}

struct Slowdowns {
  double pointwise, forward, backward, in_place;
};

static Slowdowns measure(int64_t pointwise_rows, int64_t layer_rows, int64_t D) {
  std::vector<float> a, b, c, g, s, m, v, dg, ds;
  Slowdowns found;
  {
    const Tensor y = matrix(a, pointwise_rows, D), x = matrix(b, pointwise_rows, D);
    // y = x + x
    found.pointwise =
        slowdown(kPointwise, {y, x}, {0, 1, 1, 0, 1, 1, DL_LEVEL::op_add, 1, 0, 0, 1}, {});
  }
  const Tensor y = matrix(a, layer_rows, D), x = matrix(b, layer_rows, D),
               dy = matrix(c, layer_rows, D), gamma = vector_of(g, D), beta = vector_of(s, D),
               mean = vector_of(m, layer_rows), inv = vector_of(v, layer_rows),
               dgamma = vector_of(dg, D), dbeta = vector_of(ds, D);
  found.forward = slowdown(kLayer, {y, mean, inv, x, gamma, beta}, {1}, {1e-3});
  found.in_place = slowdown(kLayer, {x, mean, inv, x, gamma, beta}, {1}, {1e-3});
  found.backward = slowdown(kLayerGrad, {y, dgamma, dbeta, dy, x, mean, inv, gamma}, {1}, {});
  return found;
}

#if defined(__AVX2__)
static constexpr bool kStoresPast = true;
#else
static constexpr bool kStoresPast = false;  // there is no such store among the vector types
#endif

int main() {
  if (!kStoresPast) return 0;
  constexpr double kMost = 5;  // L2 against L1; memory takes 10 times as long and more
  constexpr int kTries = 5;    // a machine that is busy with something else may hide it
  for (int i = 0; i < kTries; ++i) {
    const Slowdowns large = measure(11000, 2800, 768), small = measure(340, 340, 768);
    std::printf(
        "past caches: pointwise %.1f, layer_norm %.1f, its gradient %.1f times as long;"
        " small %.1f, %.1f, %.1f; in place %.1f\n",
        large.pointwise, large.forward, large.backward, small.pointwise, small.forward,
        small.backward, large.in_place);
    if (std::min({large.pointwise, large.forward, large.backward}) > kMost &&
        std::max({small.pointwise, small.forward, small.backward, large.in_place}) < kMost)
      return 0;
  }
  CHECK(!"the stores that should, and no others, pass the caches");
}
