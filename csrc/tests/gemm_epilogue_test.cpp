// Epilogues of gemm against a naive chain over k, bit for bit: bias, relu and its gradient, Adam in
// place, batches.        csrc/tests/run.sh gemm_epilogue
#include <cmath>
#include <vector>

#include "cpu/kernels/expression.h"
#include "tests/products.h"

namespace {

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

template <class T>
void test_all() {
  test_bias_relu<T>();
  test_relu_grad<T>();
  test_adam<T>();
  test_batched_epilogue<T>();
}

}  // namespace

int main() {
  test_all<float>();
  test_all<double>();
  std::puts("gemm_epilogue: all cases agree");
}
