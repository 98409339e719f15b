// gemm against a naive chain over k, bit for bit: layouts, batches, sizes around the vector,
// epilogues, parts.
//   g++ -std=gnu++20 -O2 -march=x86-64-v3 -Wall -Wextra -Wno-psabi -Wno-unknown-pragmas
//   -fno-math-errno -fno-trapping-math -ffp-contract=fast -DDL_LEVEL=avx2 -Icsrc
//   csrc/tests/gemm_test.cpp csrc/cpu/kernels/gemm.cpp csrc/cpu/kernels/gemm_plan.cpp
//   csrc/cpu/kernels/expression.cpp csrc/cpu/kernels/copy.cpp -o gemm_test && ./gemm_test
// Other levels: -march=x86-64-v2 -DDL_LEVEL=baseline, -march=x86-64-v4 -DDL_LEVEL=avx512;
// -DDL_VECTOR_BYTES=64 tests the 16-lane code on AVX2; add -fsanitize=address,undefined to find
// reads and writes beyond the arrays.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/kernels/expression.h"
#include "cpu/kernels/gemm_tile.h"
#include "cpu/kernels/level.h"
#include "random_cases.h"

using namespace dl;
using namespace dl::DL_LEVEL;

namespace {

enum Form { rows, columns, padded, strided, backwards, both_backwards, one_row, one_column, forms };

// An array with its own buffer, no larger than its elements reach, so that the sanitizer sees every
// step outside.
template <class T>
struct Array {
  std::vector<int64_t> shape, stride;
  std::unique_ptr<T[]> buffer;
  int64_t size = 1, origin = 0;

  Array(std::vector<int64_t> shape_, Form form) : shape(shape_), stride(shape_.size()) {
    const int r = int(shape.size());
    const int64_t m = shape[r - 2], n = shape[r - 1];
    int64_t row = n, col = 1;
    if (form == columns) row = 1, col = m;
    if (form == padded) row = n + 3;
    if (form == strided) row = 2 * n + 1, col = 2;
    if (form == backwards) row = -n;
    if (form == both_backwards) row = -n - 2, col = -1;
    if (form == one_row) row = 0;
    if (form == one_column) row = 1, col = 0;
    stride[r - 1] = col, stride[r - 2] = row;
    int64_t matrix = std::max<int64_t>(1, std::abs(row) * m + std::abs(col) * n);
    if (form == rows) matrix = m * n;
    for (int d = r - 3; d >= 0; --d) stride[d] = matrix, matrix *= shape[d];
    place();
  }

  void place() {
    int64_t low = 0, high = 0;
    for (size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 0) size = 0;
      (stride[d] < 0 ? low : high) += (shape[d] - 1) * stride[d];
    }
    if (size) size = high - low + 1;
    origin = -low;
    buffer.reset(new T[size]);
    for (int64_t i = 0; i < size; ++i) buffer[i] = T(pick(-1000, 1000)) / T(300);
  }

  int64_t index(int64_t batch, int64_t i, int64_t j) const {
    const int r = int(shape.size());
    int64_t at = origin + i * stride[r - 2] + j * stride[r - 1];
    for (int d = r - 3; d >= 0; --d) at += batch % shape[d] * stride[d], batch /= shape[d];
    return at;
  }
  T& operator()(int64_t batch, int64_t i, int64_t j) { return buffer[index(batch, i, j)]; }
  T operator()(int64_t batch, int64_t i, int64_t j) const { return buffer[index(batch, i, j)]; }

  Tensor tensor() const {
    Tensor t{};
    t.data = reinterpret_cast<char*>(buffer.get() + (size ? origin : 0));
    t.dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
    t.rank = int(shape.size());
    for (int d = 0; d < t.rank; ++d) t.shape[d] = shape[d], t.stride[d] = stride[d];
    return t;
  }
};

Form pick_form(int last) { return Form(pick(0, last)); }

struct Program {
  std::vector<int64_t> ints;
  std::vector<double> floats;
};

Work plan(const std::vector<Tensor>& tensors, const Program& program) {
  std::vector<Tensor> shapes = tensors;
  for (Tensor& t : shapes) t.data = nullptr;
  const Call call{shapes.data(),
                  int(shapes.size()),
                  program.ints.data(),
                  int(program.ints.size()),
                  program.floats.data(),
                  int(program.floats.size()),
                  nullptr};
  Work work;
  const char* wrong = plan_gemm(call, work);
  if (wrong) std::fprintf(stderr, "%s\n", wrong);
  CHECK(!wrong);
  return work;
}

// Runs a call in pieces of `step` parts (0: all at once), each with fresh scratch full of NaN.
void run(const std::vector<Tensor>& tensors, const Program& program, int64_t step) {
  const Work work = plan(tensors, program);
  CHECK(work.phases == 1 && work.parts[0] >= 1);
  const Call call{tensors.data(),
                  int(tensors.size()),
                  program.ints.data(),
                  int(program.ints.size()),
                  program.floats.data(),
                  int(program.floats.size()),
                  nullptr};
  const int64_t parts = work.parts[0];
  if (step <= 0) step = parts;
  for (int64_t begin = 0; begin < parts; begin += step) {
    const size_t bytes = size_t(work.scratch_bytes);
    char* scratch = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64));
    std::memset(scratch, 0xff, bytes);
    run_gemm(call, 0, begin, std::min(parts, begin + step), scratch);
    std::free(scratch);
  }
}

// Whether this build of the kernel fuses multiply and add: not every machine and optimization level
// does.
template <class T>
bool fuses() {
  static const bool fused = [] {
    Array<T> a({1, 2}, rows), b({2, 1}, rows), out({1, 1}, rows);
    const T e = std::ldexp(T(1), -(std::numeric_limits<T>::digits + 1) / 2);
    a(0, 0, 0) = -1, b(0, 0, 0) = 1;
    a(0, 0, 1) = b(0, 1, 0) = 1 + e;
    run({out.tensor(), a.tensor(), b.tensor()}, {}, 0);
    return out(0, 0, 0) == 2 * e + e * e;
  }();
  return fused;
}

template <class T>
T chain(const Array<T>& a, const Array<T>& b, int64_t batch, int64_t i, int64_t j) {
  const int64_t depth = a.shape.back();
  const bool fused = fuses<T>();
  T s = 0;
  for (int64_t k = 0; k < depth; ++k) {
    const T x = a(batch, i, k), y = b(batch, k, j);
    if (fused) {
      s = std::fma(x, y, s);
    } else {
      volatile T product = x * y;
      s += product;
    }
  }
  return s;
}

template <class T>
bool same_bits(T x, T y) {
  return std::memcmp(&x, &y, sizeof x) == 0;
}

// out = a @ b, out's neighbours untouched.
template <class T>
void plain_case(std::vector<int64_t> batch, int64_t m, int64_t n, int64_t k, Form fa, Form fb,
                Form fo, bool shared_b) {
  auto with = [&](int64_t r, int64_t c) {
    std::vector<int64_t> s = batch;
    s.push_back(r), s.push_back(c);
    return s;
  };
  Array<T> a(with(m, k), fa), b(with(k, n), fb), out(with(m, n), fo);
  if (shared_b) {
    for (size_t d = 0; d < batch.size(); ++d) b.stride[d] = 0;
    b.size = 1;
    b.place();
  }
  int64_t batches = 1;
  for (int64_t s : batch) batches *= s;
  std::vector<T> expected(out.buffer.get(), out.buffer.get() + out.size);
  for (int64_t x = 0; x < batches; ++x) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) expected[size_t(out.index(x, i, j))] = chain(a, b, x, i, j);
    }
  }
  std::vector<T> fresh(out.buffer.get(), out.buffer.get() + out.size);
  for (int64_t step : {int64_t(0), int64_t(1), int64_t(5)}) {
    std::copy(fresh.begin(), fresh.end(), out.buffer.get());
    run({out.tensor(), a.tensor(), b.tensor()}, {}, step);
    for (int64_t i = 0; i < out.size; ++i) {
      const bool same = same_bits(out.buffer[i], expected[size_t(i)]);
      if (!same)
        std::fprintf(stderr, "m %ld n %ld k %ld forms %d %d %d batch %zu step %ld element %ld\n",
                     long(m), long(n), long(k), fa, fb, fo, batch.size(), long(step), long(i));
      CHECK(same);
    }
  }
}

template <class T>
void test_sizes() {
  const int64_t L = kLanes<T>;
  const std::vector<int64_t> sizes = {0, 1, 2, 3, L - 1, L, L + 1, 2 * L + 3, 37};
  for (int64_t m : sizes) {
    for (int64_t n : sizes) {
      for (int64_t k : sizes) {
        for (Form fa : {rows, columns}) {
          for (Form fb : {rows, columns}) plain_case<T>({}, m, n, k, fa, fb, rows, false);
        }
      }
    }
  }
  for (int64_t m : {1, 2, 3, 5, 13, 14, 15, 29}) {
    for (int64_t n = 1; n < 10 * L; n += 5) plain_case<T>({}, m, n, 9, rows, rows, rows, false);
  }
}

template <class T>
void test_layouts() {
  for (int fa = 0; fa < forms; ++fa) {
    for (int fb = 0; fb < forms; ++fb) {
      for (int fo = 0; fo < one_row; ++fo) {
        plain_case<T>({}, pick(1, 40), pick(1, 70), pick(1, 40), Form(fa), Form(fb), Form(fo),
                      false);
      }
    }
  }
  for (int i = 0; i < 300; ++i) {
    std::vector<int64_t> batch;
    for (int64_t d = pick(1, 3); d > 0; --d) batch.push_back(pick(0, 4));
    plain_case<T>(batch, pick(1, 20), pick(1, 40), pick(1, 20), pick_form(both_backwards),
                  pick_form(both_backwards), pick_form(both_backwards), pick(0, 1));
  }
}

// Blocks of k, packed panels, long runs of one row, many parts.
template <class T>
void test_large() {
  const int64_t page = 4096 / int64_t(sizeof(T));
  struct Size {
    int64_t m, n, k;
  };
  const Size sizes[] = {{70, page + 5, 40}, {150, 90, 2 * page},    {1, 3000, 300},
                        {2, 1500, 700},     {3, 2 * page + 1, 300}, {1, 100, 5000},
                        {65, 130, page},    {100, 10, 3 * page},    {130, 333, 77},
                        {16, 1, 64}};
  for (const Size& s : sizes) {
    plain_case<T>({}, s.m, s.n, s.k, rows, rows, rows, false);
    plain_case<T>({}, s.m, s.n, s.k, columns, rows, rows, false);
    plain_case<T>({}, s.m, s.n, s.k, rows, columns, rows, false);
    plain_case<T>({}, s.m, s.n, s.k, columns, columns, columns, false);
    plain_case<T>({}, s.m, s.n, s.k, strided, backwards, strided, false);
  }
  plain_case<T>({}, 258, 770, 400, rows, rows, rows, false);  // both operands copied
  plain_case<T>({}, 256, 768, 256, columns, columns, padded, false);
  plain_case<T>({3}, 64, 64, 64, rows, rows, rows, false);
  plain_case<T>({200}, 17, 19, 23, rows, rows, rows, false);
  plain_case<T>({2, 30}, 16, 16, 64, rows, rows, rows, true);
}

// A row of a batch has the same bits as that row alone.
template <class T>
void test_rows_alone() {
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{128, 784}, {10, 128}, {1, 64}, {512, 512}, {1030, 70}}) {
    Array<T> a({33, k}, rows), b({k, n}, rows), out({33, n}, rows), one({1, n}, rows);
    run({out.tensor(), a.tensor(), b.tensor()}, {}, 0);
    for (int64_t i = 0; i < 33; ++i) {
      Tensor row = a.tensor();
      row.shape[0] = 1;
      row.data += i * k * int64_t(sizeof(T));
      run({one.tensor(), row, b.tensor()}, {}, 0);
      for (int64_t j = 0; j < n; ++j) CHECK(same_bits(one(0, 0, j), out(0, i, j)));
    }
  }
}

template <class T>
Program expression(int64_t n_out, int64_t n_in, std::vector<double> constants, int64_t n_temp,
                   int64_t n_ops, const std::vector<int64_t>& code) {
  Program p;
  p.ints = {sizeof(T) == 8, n_out, n_in, int64_t(constants.size()), n_temp, n_ops};
  p.ints.insert(p.ints.end(), code.begin(), code.end());
  p.floats = constants;
  return p;
}

template <class T>
T relu(T x) {
  return x < 0 ? T(0) : x;
}

struct Shape {
  int64_t m, n, k;
  Form fa, fb, fo;
};

std::vector<Shape> epilogue_shapes(int64_t L) {
  std::vector<Shape> shapes;
  for (int i = 0; i < 60; ++i) {
    shapes.push_back({pick(1, 80), pick(0, 1) ? L * pick(1, 12) : pick(1, 150), pick(0, 40),
                      pick_form(strided), pick_form(strided), pick_form(strided)});
  }
  shapes.push_back({64, 40, 1500, rows, rows, rows});  // sums wait between blocks of k
  shapes.push_back({70, 33, 1600, rows, rows, columns});
  shapes.push_back({70, 96, 1600, rows, columns, rows});
  shapes.push_back({64, 300, 200, rows, columns, rows});  // dx = dy w^T, computed as its transpose
  shapes.push_back({1, 4096, 100, rows, rows, rows});
  shapes.push_back({128, 256, 64, columns, rows, rows});
  shapes.push_back({150, 520, 100, columns, rows, rows});  // gradients of weights: panels in place,
  shapes.push_back({130, 256, 700, columns, rows, rows});  // and both operands copied
  shapes.push_back({32, 600, 10, rows, columns, rows});    // little arithmetic, cut by its bytes
  return shapes;
}

template <class T>
void test_bias_relu() {
  for (const Shape& s : epilogue_shapes(kLanes<T>)) {
    for (int kind = 0; kind < 3; ++kind) {
      Array<T> a({s.m, s.k}, s.fa), b({s.k, s.n}, s.fb), out({s.m, s.n}, s.fo),
          bias({s.m, s.n}, one_row);
      Program p;
      if (kind == 0) p = expression<T>(1, 2, {}, 1, 1, {op_add, 2, 0, 1, 2});
      if (kind == 1) p = expression<T>(1, 2, {}, 1, 2, {op_add, 2, 1, 0, op_relu, 2, 2, 2});
      if (kind == 2)
        p = expression<T>(1, 2, {2.5}, 2, 2, {op_add, 3, 0, 1, op_multiply, 4, 3, 2, 4});
      for (int64_t step : {0, 1}) {
        run({out.tensor(), a.tensor(), b.tensor(), bias.tensor()}, p, step);
        for (int64_t i = 0; i < s.m; ++i) {
          for (int64_t j = 0; j < s.n; ++j) {
            T y = chain(a, b, 0, i, j) + bias(0, 0, j);
            if (kind == 1) y = relu(y);
            if (kind == 2) y *= T(2.5);
            CHECK(same_bits(out(0, i, j), y));
          }
        }
      }
    }
  }
}

// The mask of relu's gradient, into another array and in place over y.
template <class T>
void test_relu_grad() {
  const Program p = expression<T>(1, 2, {}, 1, 1, {op_relu_grad, 2, 0, 1, 2});
  for (const Shape& s : epilogue_shapes(kLanes<T>)) {
    Array<T> a({s.m, s.k}, s.fa), b({s.k, s.n}, s.fb), out({s.m, s.n}, s.fo),
        y({s.m, s.n}, pick_form(strided));
    run({out.tensor(), a.tensor(), b.tensor(), y.tensor()}, p, 1);
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j)
        CHECK(same_bits(out(0, i, j), y(0, i, j) > 0 ? chain(a, b, 0, i, j) : T(0)));
    }
    Array<T> in_place({s.m, s.n}, s.fo);
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) in_place(0, i, j) = y(0, i, j);
    }
    run({in_place.tensor(), a.tensor(), b.tensor(), in_place.tensor()}, p, 1);
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) CHECK(same_bits(in_place(0, i, j), out(0, i, j)));
    }
  }
}

// w, m, v updated in place by the gradient a @ b, which is a second output as well.
template <class T>
void test_adam() {
  // values: 0 g, 1 w, 2 m, 3 v, 4 alpha, 5 1 - beta1, 6 1 - beta2, 7 eps, temporaries 8 9 10
  const Program p = expression<T>(4, 4, {0.01, 0.1, 0.001, 1e-7}, 3, 1,
                                  {op_adam_update, 8, 9, 10, 1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0});
  for (const Shape& s : epilogue_shapes(kLanes<T>)) {
    Array<T> a({s.m, s.k}, s.fa), b({s.k, s.n}, s.fb), g({s.m, s.n}, rows);
    Array<T> w({s.m, s.n}, s.fo), m({s.m, s.n}, rows), v({s.m, s.n}, rows);
    for (int64_t i = 0; i < v.size; ++i) v.buffer[i] = std::abs(v.buffer[i]) + T(0.5);
    std::vector<T> w0(w.buffer.get(), w.buffer.get() + w.size),
        m0(m.buffer.get(), m.buffer.get() + m.size), v0(v.buffer.get(), v.buffer.get() + v.size),
        w1;
    for (int64_t step : {0, 1, 3}) {
      std::copy(w0.begin(), w0.end(), w.buffer.get());
      std::copy(m0.begin(), m0.end(), m.buffer.get());
      std::copy(v0.begin(), v0.end(), v.buffer.get());
      run({w.tensor(), m.tensor(), v.tensor(), g.tensor(), a.tensor(), b.tensor(), w.tensor(),
           m.tensor(), v.tensor()},
          p, step);
      if (step == 0) w1.assign(w.buffer.get(), w.buffer.get() + w.size);
      CHECK(w.size == 0 || std::memcmp(w.buffer.get(), w1.data(), sizeof(T) * size_t(w.size)) == 0);
    }
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) {
        const double x = double(chain(a, b, 0, i, j));
        const double m1 = double(m0[size_t(m.index(0, i, j))]),
                     v1 = double(v0[size_t(v.index(0, i, j))]);
        const double me = m1 + (x - m1) * 0.1, ve = v1 + (x * x - v1) * 0.001;
        const double we = double(w0[size_t(w.index(0, i, j))]) - 0.01 * me / (std::sqrt(ve) + 1e-7);
        const double bound = 1e-5 * (1 + x * x);
        CHECK(same_bits(g(0, i, j), T(x)));
        CHECK(std::abs(double(m(0, i, j)) - me) < bound);
        CHECK(std::abs(double(v(0, i, j)) - ve) < bound);
        CHECK(std::abs(double(w(0, i, j)) - we) < bound);
      }
    }
  }
}

// Each half of the parts of an update goes over whole rows, so no two threads write to one row.
template <class T>
void test_halves_of_updates() {
  const int64_t m = 512, n = 64, k = 40;
  Array<T> a({m, k}, columns), b({k, n}, rows), x({m, n}, rows), out({m, n}, rows);
  const Program p = expression<T>(1, 2, {}, 1, 1, {op_multiply, 2, 0, 1, 2});
  const std::vector<Tensor> tensors{out.tensor(), a.tensor(), b.tensor(), x.tensor()};
  const Work work = plan(tensors, p);
  CHECK(work.parts[0] >= 4);
  std::vector<char> scratch(size_t(work.scratch_bytes) + 64);
  char* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64);
  const T unset = std::numeric_limits<T>::max();
  for (int64_t i = 0; i < m * n; ++i) out.buffer[i] = unset;
  run_gemm({tensors.data(), 4, p.ints.data(), int(p.ints.size()), nullptr, 0, nullptr}, 0, 0,
           work.parts[0] / 2, aligned);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) CHECK((out(0, i, j) == unset) == (i >= m / 2));
}

// Little arithmetic over many bytes is cut too.
template <class T>
void test_parts_by_bytes() {
  Array<T> a({32, 10}, rows), b({10, 1024}, columns), out({32, 1024}, rows);
  CHECK(plan({out.tensor(), a.tensor(), b.tensor()}, {}).parts[0] >= 2);
  Array<T> row({10, 64}, columns), few({32, 64}, rows);
  CHECK(plan({few.tensor(), a.tensor(), row.tensor()}, {}).parts[0] == 1);
}

// Batches with an epilogue: the bias repeats, y does not.
template <class T>
void test_batched_epilogue() {
  const Program p = expression<T>(1, 3, {}, 1, 2, {op_add, 3, 0, 1, op_relu_grad, 3, 3, 2, 3});
  for (int i = 0; i < 40; ++i) {
    const int64_t m = pick(1, 20), n = pick(1, 40), k = pick(1, 30), x = pick(1, 6);
    Array<T> a({x, m, k}, pick_form(strided)), b({x, k, n}, pick_form(strided)),
        out({x, m, n}, pick_form(strided));
    Array<T> bias({x, m, n}, one_row), y({x, m, n}, rows);
    if (pick(0, 1)) b.stride[0] = 0;
    bias.stride[0] = 0;
    run({out.tensor(), a.tensor(), b.tensor(), bias.tensor(), y.tensor()}, p, pick(0, 1));
    for (int64_t e = 0; e < x * m * n; ++e) {
      const int64_t batch = e / (m * n), r = e / n % m, c = e % n;
      const T s = chain(a, b, batch, r, c) + bias(0, 0, c);
      CHECK(same_bits(out(batch, r, c), y(batch, r, c) > 0 ? s : T(0)));
    }
  }
}

// Tiles that copy B have the sums of those that do not.
template <class T>
void test_packing_tiles() {
  constexpr int64_t L = kLanes<T>, k = 39, b_row = 5 * L;
  for (const int nv : {2, 4}) {
    for (int h = 1; h <= max_height(nv); ++h) {
      Array<T> a({h, k}, rows), b({k, b_row}, rows), c({h, nv * L}, rows), d({h, nv * L}, rows);
      Array<T> packed({k, nv * L}, rows);
      Tile<T> t{};
      t.a = a.buffer.get(), t.a_row = k, t.a_col = 1;
      t.b[0] = b.buffer.get(), t.b_row[0] = b_row, t.k[0] = k;
      t.c = c.buffer.get(), t.c_row = nv * L;
      find_tile<T>(nv, h)(t);
      t.c = d.buffer.get(), t.packed = packed.buffer.get();
      find_packing_tile<T>(nv, h)(t);
      for (int64_t i = 0; i < h * nv * L; ++i) CHECK(same_bits(c.buffer[i], d.buffer[i]));
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < nv * L; ++j) CHECK(same_bits(packed(0, i, j), b(0, i, j)));
      }
    }
  }
}

void test_refusals() {
  Array<float> a({4, 5}, rows), b({5, 6}, rows), c({4, 6}, rows), d({4, 5}, rows);
  Array<double> e({5, 6}, rows);
  auto refused = [](std::vector<Tensor> t, Program p) {
    Work work;
    const Call call{t.data(),        int(t.size()),        p.ints.data(), int(p.ints.size()),
                    p.floats.data(), int(p.floats.size()), nullptr};
    return plan_gemm(call, work) != nullptr;
  };
  CHECK(!refused({c.tensor(), a.tensor(), b.tensor()}, {}));
  CHECK(refused({c.tensor(), b.tensor(), a.tensor()}, {}));
  CHECK(refused({d.tensor(), a.tensor(), b.tensor()}, {}));
  CHECK(refused({c.tensor(), a.tensor(), e.tensor()}, {}));
  CHECK(refused({c.tensor(), a.tensor()}, {}));
  CHECK(refused({c.tensor(), a.tensor(), b.tensor(), c.tensor()}, {}));
  const Program add = expression<float>(1, 2, {}, 1, 1, {op_add, 2, 0, 1, 2});
  CHECK(!refused({c.tensor(), a.tensor(), b.tensor(), c.tensor()}, add));
  CHECK(refused({c.tensor(), a.tensor(), b.tensor(), d.tensor()}, add));
  CHECK(refused({c.tensor(), a.tensor(), b.tensor()}, add));
}

template <class T>
void test_all() {
  test_sizes<T>();
  test_layouts<T>();
  test_large<T>();
  test_rows_alone<T>();
  test_bias_relu<T>();
  test_relu_grad<T>();
  test_adam<T>();
  test_halves_of_updates<T>();
  test_parts_by_bytes<T>();
  test_batched_epilogue<T>();
  test_packing_tiles<T>();
}

}  // namespace

int main() {
  test_all<float>();
  test_all<double>();
  test_refusals();
  std::puts("gemm: all cases agree");
}
