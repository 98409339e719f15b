// reduce and arg_reduce against scalar references: random programs over random layouts and dtypes,
// the same bits for any cut, NaN.        csrc/tests/run.sh reduce
#include "cpu/kernels/level.h"
#include "tests/random_arrays.h"

using namespace dl::DL_LEVEL;

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

int main() {
  test_reduce();
  test_reduce_bits();
  test_arg_reduce();
  return report();
}
