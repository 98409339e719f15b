// Epilogues of convolutions and both gradients against the plain results, exact in small integers.
//   csrc/tests/run.sh conv_epilogue
#include <algorithm>
#include <vector>

#include "cpu/kernels/expression.h"
#include "tests/conv_cases.h"

namespace {

struct Expr {
  std::vector<int64_t> ints;
  std::vector<double> floats;
};

template <class T>
Expr expression(int64_t n_in, std::vector<double> constants, int64_t n_temp, int64_t n_ops,
                const std::vector<int64_t>& code) {
  Expr e;
  e.ints = {sizeof(T) == 8, 1, n_in, int64_t(constants.size()), n_temp, n_ops};
  e.ints.insert(e.ints.end(), code.begin(), code.end());
  e.floats = constants;
  return e;
}

// Bias, relu, the gradient of relu in place, and an expression that no register epilogue knows.
template <class T>
void test_epilogues() {
  for (int i = 0; i < 120; ++i) {
    Case c = random_case(pick(1, 3), 12);
    if (pick(0, 1)) c.filters = c.channels = 32, c.groups = pick(0, 1) ? 1 : 32;
    if (i % 5 == 0) c = winograd_case();
    const std::vector<int64_t> plain = c.ints();
    auto with = [&](const Expr& e) {
      std::vector<int64_t> ints = plain;
      ints.insert(ints.end(), e.ints.begin(), e.ints.end());
      return ints;
    };
    const auto layout = Layout<T>(pick(0, 1) ? 0 : pick(0, 2));
    const Array<T> x(c.x(), layout), w(c.w());
    Array<T> y(c.y(), layout), sum(c.y()), bias({c.filters});
    run(forward, {sum.tensor(), x.tensor(), w.tensor()}, plain, {}, 0);
    Tensor b = y.tensor();
    b.data = reinterpret_cast<char*>(bias.buffer.get());
    for (int d = 0; d < b.rank; ++d) b.stride[d] = d == b.rank - 1;
    const Expr known[] = {expression<T>(2, {}, 1, 1, {op_add, 2, 0, 1, 2}),
                          expression<T>(2, {}, 1, 2, {op_add, 2, 1, 0, op_relu, 2, 2, 2}),
                          expression<T>(2, {2}, 2, 2, {op_add, 3, 0, 1, op_multiply, 4, 3, 2, 4})};
    for (int kind = 0; kind < 3; ++kind) {
      y.fill(T(77));
      run(forward, {y.tensor(), x.tensor(), w.tensor(), b}, with(known[kind]), known[kind].floats,
          pick(0, 1));
      each(y.shape, [&](const Shape& at) {
        const T s = sum.at(at) + bias.buffer[at.back()];
        CHECK(y.at(at) == (kind == 0 ? s : kind == 1 ? std::max(s, T(0)) : 2 * s));
      });
    }
    Array<T> dx(c.x(), layout), plain_dx(c.x()), before(c.x());
    run(input_grad, {plain_dx.tensor(), y.tensor(), w.tensor()}, plain, {}, 0);
    each(c.x(), [&](const Shape& at) { dx.at(at) = before.at(at); });
    const Expr mask = expression<T>(2, {}, 1, 1, {op_relu_grad, 2, 0, 1, 2});
    run(input_grad, {dx.tensor(), y.tensor(), w.tensor(), dx.tensor()}, with(mask), {}, 1);
    each(c.x(), [&](const Shape& at) {
      CHECK(dx.at(at) == (before.at(at) > 0 ? plain_dx.at(at) : T(0)));
    });
    Array<T> dw(c.w()), old(c.w()), grad(c.w());
    run(filter_grad, {grad.tensor(), x.tensor(), y.tensor()}, plain, {}, 0);
    each(c.w(), [&](const Shape& at) { dw.at(at) = old.at(at); });
    const Expr step = expression<T>(2, {-2}, 1, 1, {op_multiply_add, 3, 0, 2, 1, 3});
    run(filter_grad, {dw.tensor(), x.tensor(), y.tensor(), dw.tensor()}, with(step), step.floats,
        1);
    each(c.w(), [&](const Shape& at) { CHECK(dw.at(at) == old.at(at) - 2 * grad.at(at)); });
  }
}

}  // namespace

int main() {
  test_epilogues<float>();
  test_epilogues<double>();
  std::puts("conv_epilogue: all cases agree");
}
