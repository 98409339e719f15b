// Large results go past the caches, every byte of them; smaller results, and results over an input,
// do not. The kernels are compiled here once more, with stores past the caches that are counted:
// what such a store does to a cache is the processor's business and not shown.
#include <cstdio>
#include <vector>

#include "common/layer_norm.h"
#include "common/loops.h"
#include "cpu/kernels/expression.h"
#include "cpu/kernels/level.h"
#include "cpu/rows.h"
#include "tests/check.h"

namespace dl {

static int64_t past = 0;  // bytes

namespace level = DL_LEVEL;

template <class T>
static void count_past_caches(T* p, level::Vec<T> v) {
  past += sizeof v;
  level::store_past_caches<T>(p, v);
}

// What the kernels call is the level's; they themselves have names of their own.
namespace counted_pointwise {
using namespace level;
}
namespace counted_layer_norm {
using namespace level;
}

}  // namespace dl

#define store_past_caches count_past_caches
#undef DL_LEVEL
#define DL_LEVEL counted_pointwise
#include "cpu/kernels/pointwise.cpp"
#undef DL_LEVEL
#define DL_LEVEL counted_layer_norm
#include "cpu/kernels/layer_norm.cpp"

using namespace dl;

#define DL_TESTED(file, name) \
  Kernel { #name, file::plan_##name, file::run_##name }
static const Kernel kPointwise = DL_TESTED(counted_pointwise, pointwise),
                    kLayer = DL_TESTED(counted_layer_norm, layer_norm),
                    kLayerGrad = DL_TESTED(counted_layer_norm, layer_norm_grad);

// Bytes that a kernel stores past the caches.
static int64_t stored_past(const Kernel& k, std::vector<Tensor> tensors, std::vector<int64_t> ints,
                           std::vector<double> floats) {
  Call call{tensors.data(), int(tensors.size()), ints.data(), int(ints.size()),
            floats.data(),  int(floats.size()),  nullptr};
  Work work;
  CHECK(!k.plan(call, work));
  std::vector<double> shared(work.shared_bytes / 8 + 9), scratch(work.scratch_bytes / 8 + 9);
  call.shared = reinterpret_cast<char*>(shared.data());
  past = 0;
  for (int phase = 0; phase < work.phases; ++phase)
    k.run(call, phase, 0, work.parts[phase], reinterpret_cast<char*>(scratch.data()));
  return past;
}

// Zeros from a vector's boundary on.
struct Array {
  std::vector<float> memory;
  Tensor t;

  explicit Array(int64_t n) : memory(n + 16), t{first(), DType::f32, 1, {n}, {1}} {}
  Array(int64_t rows, int64_t cols) : Array(rows * cols) {
    t.rank = 2, t.shape[0] = rows, t.shape[1] = cols, t.stride[0] = cols, t.stride[1] = 1;
  }
  char* first() {
    const auto address = reinterpret_cast<uintptr_t>(memory.data());
    return reinterpret_cast<char*>((address + 63) / 64 * 64);
  }
};

constexpr int64_t kColumns = 768, kRowBytes = kColumns * sizeof(float);

static void test_pointwise(int64_t rows, bool large) {
  const std::vector<int64_t> twice{0, 1, 1, 0, 1, 1, level::op_add, 1, 0, 0, 1};  // y = x + x
  const Array y(rows, kColumns), x(rows, kColumns);
  CHECK(stored_past(kPointwise, {y.t, x.t}, twice, {}) == large * rows * kRowBytes);
  CHECK(stored_past(kPointwise, {x.t, x.t}, twice, {}) == 0);
}

static void test_layer_norm(int64_t rows, bool large) {
  const Array y(rows, kColumns), x(rows, kColumns), dy(rows, kColumns), mean(rows), inv(rows);
  const Array gamma(kColumns), beta(kColumns), dgamma(kColumns), dbeta(kColumns);
  const auto forward = [&](const Array& out) {
    return stored_past(kLayer, {out.t, mean.t, inv.t, x.t, gamma.t, beta.t}, {1}, {1e-3});
  };
  const auto backward = [&](const Array& dx) {
    return stored_past(kLayerGrad, {dx.t, dgamma.t, dbeta.t, dy.t, x.t, mean.t, inv.t, gamma.t},
                       {1}, {});
  };
  CHECK(forward(y) == large * rows * kRowBytes && forward(x) == 0);
  CHECK(backward(y) == large * rows * kRowBytes && backward(x) == 0 && backward(dy) == 0);
}

int main() {
  test_pointwise(11000, true);  // 32.2 MiB
  test_pointwise(10000, false);
  test_layer_norm(2800, true);  // 8.2 MiB
  test_layer_norm(2600, false);
  std::puts("past_caches: ok");
}
