// recurrence against naive loops over small integers, exactly: two stages, both directions, plain
// and transposed matrices, packed and in place, odd sizes, one part against all; malformed stages.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "common/expression.h"
#include "cpu/kernels/level.h"
#include "random_cases.h"

using namespace dl;
using namespace dl::DL_LEVEL;

namespace {

// A tensor with exactly its memory; `gap` unused elements behind each row.
template <class T>
struct Array {
  std::vector<T> memory;
  Tensor t{};
  Array(std::vector<int64_t> shape, int64_t gap = 0) {
    t.dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
    t.rank = int(shape.size());
    int64_t run = 1;
    for (int a = t.rank - 1; a >= 0; --a) {
      t.shape[a] = shape[a], t.stride[a] = run, run *= shape[a];
      if (a == t.rank - 1) run += gap;
    }
    memory.resize(run);
    for (T& x : memory) x = T(pick(-2, 2));
    t.data = reinterpret_cast<char*>(memory.data());
  }
  T& at(int64_t i, int64_t j) { return memory[i * t.stride[0] + j * t.stride[1]]; }
  T& at(int64_t i, int64_t j, int64_t k) {
    return memory[i * t.stride[0] + j * t.stride[1] + k * t.stride[2]];
  }
};

// r = relu(h u + x), wide;   h' = clip(r v + b, -3, 3)
template <class T>
void test(int64_t steps, int64_t rows, int64_t width, bool backwards, bool transposed, bool zeros) {
  constexpr int64_t kWide = 2;  // r is 2 H wide
  Array<T> history({steps + 1, rows, width}), r({steps, rows, kWide * width}, 3);
  Array<T> x({steps, rows, kWide * width}, 1), bias({1, 1, width});
  Array<T> u(transposed ? std::vector<int64_t>{kWide * width, width}
                        : std::vector<int64_t>{width, kWide * width});
  Array<T> v({kWide * width, width}, 2), first({rows, width}, 1);
  const int64_t wide = sizeof(T) == 8, before = backwards, after = !backwards;
  std::vector<int64_t> ints = {width, backwards, 1, 2, zeros ? -1 : 6, 2};
  auto add = [&ints](std::vector<int64_t> more) {
    ints.insert(ints.end(), more.begin(), more.end());
  };
  add({0, before, 0, 1, 4, transposed, kWide});
  add({4, -1, 0, 0, -1, 0, 1, 2, 0, 0, 2, 0, 1, 2, 1, 0, 0, 1, 0, 1});
  const std::vector<int64_t> relu = {wide, 2, 4,      0, 2, 4, op_add,  4, 0, 2, op_relu,
                                     4,    4, op_add, 5, 1, 3, op_relu, 5, 5, 4, 5};
  add({0, int64_t(relu.size())});
  add(relu);
  add({1, 0, 0, kWide, 5, 0, 1, 2, -1, 0, 0, 3, 0, 0, 1, 0, after, 0});
  const std::vector<int64_t> clip = {wide,       1, 2, 2, 1,          3, op_add, 4, 0, 1,
                                     op_minimum, 4, 4, 2, op_maximum, 4, 4,      3, 4};
  add({2, int64_t(clip.size())});
  add(clip);
  const double floats[] = {3, -3};
  const Tensor tensors[] = {history.t, r.t, x.t, bias.t, u.t, v.t, first.t};
  Call call{tensors, 7, ints.data(), int(ints.size()), floats, 2, nullptr};
  Work work;
  const char* wrong = plan_recurrence(call, work);
  if (wrong) std::printf("%s\n", wrong);
  CHECK(!wrong && work.outputs == 2 && work.phases == 1 && work.parts[0] == rows);

  std::vector<T> expected((steps + 1) * rows * width);
  auto h = [&](int64_t t, int64_t b, int64_t j) -> T& {
    return expected[(t * rows + b) * width + j];
  };
  for (int64_t b = 0; b < rows; ++b) {
    for (int64_t j = 0; j < width; ++j) h(backwards ? steps : 0, b, j) = zeros ? 0 : first.at(b, j);
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t t = backwards ? steps - 1 - s : s;
      std::vector<T> middle(kWide * width);
      for (int64_t j = 0; j < kWide * width; ++j) {
        T sum = x.at(t, b, j);
        for (int64_t k = 0; k < width; ++k)
          sum += h(t + before, b, k) * (transposed ? u.at(j, k) : u.at(k, j));
        middle[j] = std::max(sum, T(0));
      }
      for (int64_t j = 0; j < width; ++j) {
        T sum = bias.at(0, 0, j);
        for (int64_t k = 0; k < kWide * width; ++k) sum += middle[k] * v.at(k, j);
        h(t + after, b, j) = std::max(std::min(sum, T(3)), T(-3));
      }
    }
  }
  std::vector<char> prepared(work.prepared_bytes + 16);
  for (const bool apart : {false, true}) {
    std::fill(history.memory.begin(), history.memory.end(), T(9));
    void* raw = prepared.data();
    size_t space = prepared.size();
    call.prepared = std::align(16, work.prepared_bytes, raw, space);
    CHECK(!plan_recurrence(call, work));
    if (apart) call.prepared = nullptr;
    std::vector<T> scratch(work.scratch_bytes / sizeof(T) + 16);
    void* aligned = scratch.data();
    space = scratch.size() * sizeof(T);
    char* base = static_cast<char*>(std::align(64, work.scratch_bytes, aligned, space));
    for (int64_t p = 0; apart && p < rows; ++p) run_recurrence(call, 0, p, p + 1, base);
    if (!apart) run_recurrence(call, 0, 0, rows, base);
    CHECK(history.memory == expected);
    call.prepared = nullptr;
  }
  // Whatever the integers say, plan answers.
  for (int i = 0; i < 200; ++i) {
    std::vector<int64_t> bad = ints;
    if (pick(0, 3) == 0) {
      bad.resize(pick(0, int64_t(bad.size()) - 1));
    } else {
      bad[pick(0, int64_t(bad.size()) - 1)] = pick(0, 1) ? pick(-3, 40) : INT64_MAX - pick(0, 9);
    }
    Call wrong_call{tensors, 7, bad.data(), int(bad.size()), floats, 2, nullptr};
    Work ignored;
    const char* sentence = plan_recurrence(wrong_call, ignored);
    CHECK(bad.size() == ints.size() || sentence);
  }
}

}  // namespace

int main() {
  for (int i = 0; i < 150; ++i) {
    const int64_t widths[] = {1, 3, 8, 16, 17, 32, 37};
    const int64_t steps = pick(0, 5), rows = pick(1, 29), width = widths[pick(0, 6)];
    const bool backwards = pick(0, 1), transposed = pick(0, 1), zeros = pick(0, 1);
    test<float>(steps, rows, width, backwards, transposed, zeros);
    test<double>(steps, rows, width, backwards, transposed, zeros);
  }
  test<float>(2, 1, 64, false, false, false);  // in place
  test<float>(3, 200, 48, true, true, true);   // several blocks of rows
  std::printf("ok\n");
}
