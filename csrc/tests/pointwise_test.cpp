// pointwise against scalar references: random programs over random layouts and dtypes, updates in
// place, results larger than the caches.        csrc/tests/run.sh pointwise
#include "cpu/kernels/level.h"
#include "tests/random_arrays.h"

using namespace dl::DL_LEVEL;

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

int main() {
  test_pointwise();
  test_update();
  test_large();
  return report();
}
