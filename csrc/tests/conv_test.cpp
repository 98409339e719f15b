// Convolution and both gradients against naive loops over small integers, where every sum is exact:
// geometries, layouts, epilogues, parts, bits.        csrc/tests/run.sh conv
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/kernels/expression.h"
#include "cpu/kernels/level.h"
#include "random_cases.h"

using namespace dl;
using namespace dl::DL_LEVEL;

namespace {

using Shape = std::vector<int64_t>;

int64_t count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t s : shape) n *= s;
  return n;
}

// An array with its axes in any order in memory, and no element more than it needs.
template <class T>
struct Array {
  Shape shape, stride;
  std::unique_ptr<T[]> buffer;
  int64_t size;

  enum Layout { plain, channels_first, spaced };

  explicit Array(const Shape& s, Layout layout = plain, int64_t most = 3)
      : shape(s), stride(s.size()), size(count(s)) {
    const int r = int(shape.size());
    int64_t step = layout == spaced ? 2 : 1;
    if (layout == channels_first) {
      for (int d = r - 2; d >= 1; --d) stride[d] = step, step *= shape[d];
      stride[r - 1] = step, step *= shape[r - 1];
      stride[0] = step;
    } else {
      for (int d = r - 1; d >= 0; --d) stride[d] = step, step *= shape[d] + (layout == spaced);
    }
    int64_t last = 0;
    for (int d = 0; d < r; ++d) last += (shape[d] - 1) * stride[d];
    if (size) size = last + 1;
    buffer.reset(new T[size]);
    for (int64_t i = 0; i < size; ++i) buffer[i] = T(pick(-most, most));
  }

  T& at(const Shape& index) const {
    int64_t i = 0;
    for (size_t d = 0; d < shape.size(); ++d) i += index[d] * stride[d];
    return buffer[i];
  }

  Tensor tensor() const {
    Tensor t{};
    t.data = reinterpret_cast<char*>(buffer.get());
    t.dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
    t.rank = int(shape.size());
    for (int d = 0; d < t.rank; ++d) t.shape[d] = shape[d], t.stride[d] = stride[d];
    return t;
  }

  void fill(T value) {
    for (int64_t i = 0; i < size; ++i) buffer[i] = value;
  }
};

template <class T>
using Layout = typename Array<T>::Layout;

// Visits every index of a shape in order.
void each(const Shape& shape, const std::function<void(const Shape&)>& visit) {
  if (count(shape) == 0) return;
  Shape index(shape.size(), 0);
  for (;;) {
    visit(index);
    int d = int(shape.size()) - 1;
    while (d >= 0 && ++index[size_t(d)] == shape[size_t(d)]) index[size_t(d--)] = 0;
    if (d < 0) return;
  }
}

struct Expr {
  std::vector<int64_t> ints;
  std::vector<double> floats;
};

struct Case {
  int64_t batch, channels, filters, groups;
  Shape in, size, stride, dilation, before, after;

  int64_t d() const { return int64_t(in.size()); }
  int64_t out(size_t a) const {
    const int64_t span = in[a] + before[a] + after[a] - dilation[a] * (size[a] - 1) - 1;
    return span < 0 ? 0 : span / stride[a] + 1;
  }
  Shape x() const {
    Shape s{batch};
    s.insert(s.end(), in.begin(), in.end());
    s.push_back(channels);
    return s;
  }
  Shape w() const {
    Shape s = size;
    s.push_back(channels / groups), s.push_back(filters);
    return s;
  }
  Shape y() const {
    Shape s{batch};
    for (size_t a = 0; a < in.size(); ++a) s.push_back(out(a));
    s.push_back(filters);
    return s;
  }
  std::vector<int64_t> ints() const {
    std::vector<int64_t> v{d(), groups};
    for (const Shape* s : {&stride, &dilation, &before}) v.insert(v.end(), s->begin(), s->end());
    return v;
  }
};

using Plan = const char* (*)(const Call&, Work&);
using Run = void (*)(const Call&, int, int64_t, int64_t, char*);

struct Functions {
  Plan plan;
  Run run;
};
const Functions forward{plan_conv, run_conv}, input_grad{plan_conv_input_grad, run_conv_input_grad},
    filter_grad{plan_conv_filter_grad, run_conv_filter_grad};

struct Aligned {
  explicit Aligned(int64_t bytes)
      : data(static_cast<char*>(std::aligned_alloc(64, size_t(bytes + 63) / 64 * 64 + 64))) {
    std::memset(data, 0xff, size_t(bytes));
  }
  ~Aligned() { std::free(data); }
  char* data;
};

// Runs a call in pieces of `step` parts (0: all at once), each with fresh scratch full of NaN.
void run(const Functions& kernel, const std::vector<Tensor>& tensors,
         const std::vector<int64_t>& ints, const std::vector<double>& floats, int64_t step) {
  std::vector<Tensor> shapes = tensors;
  for (Tensor& t : shapes) t.data = nullptr;
  Call call{shapes.data(), int(shapes.size()), ints.data(), int(ints.size()),
            floats.data(), int(floats.size()), nullptr};
  Work work;
  const char* wrong = kernel.plan(call, work);
  if (wrong) std::fprintf(stderr, "%s\n", wrong);
  CHECK(!wrong);
  CHECK(work.scratch_bytes < 2 << 20);
  std::vector<double> prepared(size_t(work.prepared_bytes) / 8 + 2);
  if (pick(0, 1)) {
    call.prepared = prepared.data();
    CHECK(!kernel.plan(call, work));
  }
  call.tensors = tensors.data();
  Aligned shared(work.shared_bytes);
  call.shared = shared.data;
  for (int phase = 0; phase < work.phases; ++phase) {
    const int64_t parts = work.parts[phase], stride = step ? step : parts;
    for (int64_t begin = 0; begin < parts; begin += stride) {
      Aligned scratch(work.scratch_bytes);
      kernel.run(call, phase, begin, std::min(parts, begin + stride), scratch.data);
    }
  }
}

// Calls visit(x's index, w's index, y's index) for every product of the convolution.
void products(const Case& c,
              const std::function<void(const Shape&, const Shape&, const Shape&)>& visit) {
  const size_t d = c.in.size();
  const int64_t per = c.channels / c.groups, kper = c.filters / c.groups;
  each(c.y(), [&](const Shape& y) {
    each(c.size, [&](const Shape& tap) {
      Shape x{y[0]}, w = tap;
      for (size_t a = 0; a < d; ++a) {
        const int64_t at = y[a + 1] * c.stride[a] - c.before[a] + tap[a] * c.dilation[a];
        if (at < 0 || at >= c.in[a]) return;
        x.push_back(at);
      }
      x.push_back(0), w.push_back(0), w.push_back(y[d + 1]);
      for (int64_t i = 0; i < per; ++i) {
        w[d] = i, x[d + 1] = y[d + 1] / kper * per + i;
        visit(x, w, y);
      }
    });
  });
}

template <class T>
void check_equal(const Array<T>& got, const Array<T>& expected, const char* what, const Case& c) {
  each(got.shape, [&](const Shape& i) {
    if (got.at(i) == expected.at(i)) return;
    std::fprintf(stderr, "%s: got %g, expected %g at", what, double(got.at(i)),
                 double(expected.at(i)));
    for (int64_t v : i) std::fprintf(stderr, " %d", int(v));
    std::fprintf(stderr, "; batch %d, channels %d, filters %d, groups %d\n", int(c.batch),
                 int(c.channels), int(c.filters), int(c.groups));
    for (size_t a = 0; a < c.in.size(); ++a)
      std::fprintf(stderr, "  in %d, size %d, stride %d, dilation %d, padding %d %d\n",
                   int(c.in[a]), int(c.size[a]), int(c.stride[a]), int(c.dilation[a]),
                   int(c.before[a]), int(c.after[a]));
    CHECK(false);
  });
}

template <class T>
void check_case(const Case& c, Layout<T> layout, int64_t step) {
  const Array<T> x(c.x(), layout), w(c.w(), pick(0, 3) ? Array<T>::plain : layout),
      dy(c.y(), layout);
  Array<T> y(c.y(), layout), dx(c.x(), layout), dw(c.w(), layout);
  Array<T> y0(c.y()), dx0(c.x()), dw0(c.w());
  for (Array<T>* a : {&y, &dx, &dw}) a->fill(T(77));
  for (Array<T>* a : {&y0, &dx0, &dw0}) a->fill(0);
  products(c, [&](const Shape& xi, const Shape& wi, const Shape& yi) {
    y0.at(yi) += x.at(xi) * w.at(wi);
    dx0.at(xi) += dy.at(yi) * w.at(wi);
    dw0.at(wi) += x.at(xi) * dy.at(yi);
  });
  const std::vector<int64_t> ints = c.ints();
  run(forward, {y.tensor(), x.tensor(), w.tensor()}, ints, {}, step);
  check_equal(y, y0, "forward", c);
  run(input_grad, {dx.tensor(), dy.tensor(), w.tensor()}, ints, {}, step);
  check_equal(dx, dx0, "input gradient", c);
  run(filter_grad, {dw.tensor(), x.tensor(), dy.tensor()}, ints, {}, step);
  check_equal(dw, dw0, "filter gradient", c);
}

// One for minimal filtering (conv_winograd.h), whatever the type.
Case winograd_case() {
  Case c{};
  c.batch = pick(1, 3), c.groups = 1;
  c.channels = 16 * pick(1, 3), c.filters = 16 * pick(1, 3);
  for (int64_t a = 0; a < 2; ++a) {
    c.in.push_back(pick(8, 13)), c.size.push_back(3);
    c.stride.push_back(1), c.dilation.push_back(1);
    c.before.push_back(pick(0, 2)), c.after.push_back(pick(0, 2));
  }
  return c;
}

Case random_case(int64_t d, int64_t most_channels) {
  Case c{};
  c.batch = pick(0, 9) ? pick(1, 3) : pick(0, 7);
  const int64_t kind = pick(0, 5);
  c.groups = kind < 3 ? 1 : kind == 3 ? pick(4, 12) : pick(1, 4);
  c.channels = c.groups * pick(1, most_channels);
  c.filters = c.groups * pick(1, most_channels);
  if (kind == 5) {
    c.groups = c.channels = pick(1, 2 * most_channels);
    c.filters = c.channels * pick(1, 3);
    if (pick(0, 1)) c.groups = c.channels = c.filters = 16 * pick(1, 3);  // conv_depthwise.h
  }
  const int64_t extent = d == 1 ? 40 : d == 2 ? 12 : 6;
  for (int64_t a = 0; a < d; ++a) {
    c.in.push_back(pick(1, extent)), c.size.push_back(pick(1, d == 3 ? 3 : 4));
    c.stride.push_back(pick(1, 3)), c.dilation.push_back(pick(0, 1) ? 1 : pick(1, 3));
    c.before.push_back(pick(0, 1) ? pick(0, 4) : 0);
    c.after.push_back(pick(0, 1) ? pick(0, 4) : 0);
  }
  return c;
}

template <class T>
void test_random() {
  for (int i = 0; i < 600; ++i) {
    const Case c = random_case(pick(1, 3), pick(0, 2) ? 6 : 20);
    check_case<T>(i % 20 ? c : winograd_case(), Layout<T>(pick(0, 1) ? 0 : pick(0, 2)), pick(0, 2));
  }
}

// Shapes that reach what random ones seldom do: several boxes, panels, cells, chunks, channel
// steps.
template <class T>
void test_chosen() {
  auto square = [](int64_t n, int64_t channels, int64_t filters, int64_t groups, int64_t in,
                   int64_t size, int64_t stride, int64_t dilation, int64_t pad) {
    const auto two = [](int64_t v) { return Shape{v, v}; };
    return Case{n,         channels,    filters,       groups,   two(in),
                two(size), two(stride), two(dilation), two(pad), two(pad)};
  };
  for (const Case& c : {
           square(3, 32, 64, 1, 13, 3, 1, 1, 0),
           square(3, 32, 64, 1, 13, 3, 1, 1, 1),
           square(2, 1, 32, 1, 28, 3, 1, 1, 0),
           square(2, 3, 16, 1, 30, 7, 2, 1, 3),
           square(2, 64, 48, 1, 9, 1, 1, 1, 0),
           square(2, 40, 40, 1, 9, 1, 2, 1, 0),
           square(2, 48, 48, 48, 14, 3, 1, 1, 1),
           square(2, 48, 48, 48, 15, 3, 2, 1, 1),
           square(2, 20, 60, 20, 14, 5, 1, 2, 4),
           square(40, 8, 16, 1, 2, 2, 1, 1, 1),
           square(2, 32, 1, 1, 14, 3, 1, 1, 1),  // few columns: forward here, the gradient below
           square(2, 1, 32, 1, 14, 3, 1, 1, 1),
           square(3, 3, 48, 1, 15, 5, 2, 1, 2),
           square(1, 8, 128, 4, 9, 3, 2, 1, 1),
           square(1, 130, 140, 1, 6, 3, 1, 1, 1),
           // lanes across groups of 2, 4 and 8 channels, as many or fewer filters
           square(2, 32, 32, 16, 9, 3, 2, 1, 1),
           square(2, 64, 64, 16, 14, 3, 1, 1, 1),
           square(1, 64, 64, 8, 9, 1, 1, 1, 0),
           square(2, 64, 16, 4, 9, 1, 1, 1, 0),
           square(2, 52, 52, 13, 9, 3, 1, 2, 2),
           square(1, 24, 48, 12, 8, 2, 1, 1, 0),
           square(1, 48, 24, 12, 8, 2, 1, 1, 0),
           // minimal filtering: odd sizes, several panels, cells, steps of channels
           square(2, 16, 16, 1, 9, 3, 1, 1, 0),
           square(5, 32, 80, 1, 7, 3, 1, 1, 1),
           square(2, 144, 48, 1, 8, 3, 1, 1, 2),
           square(1, 352, 16, 1, 9, 3, 1, 1, 1),
           square(1, 64, 144, 1, 8, 3, 1, 1, 1),  // parts of columns
           square(2, 4, 8, 2, 5, 3, 7, 5, 6),
           square(1, 2, 3, 1, 3, 2, 40, 1, 1),
           square(1, 2, 40, 1, 2, 1, 1, 1, 30),
       })
    check_case<T>(c, Array<T>::plain, pick(0, 2));
  check_case<T>({1, 2000, 9, 1, {4}, {9}, {1}, {1}, {4}, {4}}, Array<T>::plain, 0);
  check_case<T>({1, 2000, 9, 1, {4}, {5}, {3}, {1}, {11}, {20}}, Array<T>::plain, 0);
  check_case<T>({2, 64, 24, 1, {5, 9}, {3, 4}, {1, 1}, {2, 1}, {4, 5}, {3, 9}}, Array<T>::plain, 0);
  check_case<T>({2, 130, 40, 1, {7, 5}, {3, 3}, {2, 1}, {1, 2}, {1, 2}, {1, 2}}, Array<T>::plain,
                1);
  check_case<T>({1, 700, 3, 1, {3, 3, 3}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
                Array<T>::plain, 1);
  check_case<T>({2, 3, 5, 1, {3000}, {3}, {1}, {500}, {500}, {500}}, Array<T>::plain, 0);
  check_case<T>({1, 2, 3, 1, {2}, {2}, {1}, {1 << 30}, {1 << 30}, {0}}, Array<T>::plain, 0);
}

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

// An image of a batch has the same bits as that image alone; so has any cut.
template <class T>
void test_images_alone() {
  for (int i = 0; i < 40; ++i) {
    Case c = i % 5 ? random_case(2, 24) : winograd_case();
    c.batch = 9;
    Array<T> x(c.x()), w(c.w());
    for (int64_t k = 0; k < x.size; ++k) x.buffer[k] = T(pick(-999, 999)) / T(333);
    for (int64_t k = 0; k < w.size; ++k) w.buffer[k] = T(pick(-999, 999)) / T(333);
    Array<T> y(c.y()), again(c.y());
    run(forward, {y.tensor(), x.tensor(), w.tensor()}, c.ints(), {}, 0);
    Case one = c;
    one.batch = 1;
    for (int64_t n = 0; n < c.batch; ++n) {
      Tensor xn = x.tensor(), yn = again.tensor();
      xn.shape[0] = yn.shape[0] = 1;
      xn.data += n * x.stride[0] * int64_t(sizeof(T));
      yn.data += n * y.stride[0] * int64_t(sizeof(T));
      run(forward, {yn, xn, w.tensor()}, c.ints(), {}, 1);
    }
    const size_t bytes = sizeof(T) * size_t(y.size);
    CHECK(bytes == 0 || !std::memcmp(y.buffer.get(), again.buffer.get(), bytes));
    Array<T> dw(c.w()), dw2(c.w());
    run(filter_grad, {dw.tensor(), x.tensor(), y.tensor()}, c.ints(), {}, 0);
    run(filter_grad, {dw2.tensor(), x.tensor(), y.tensor()}, c.ints(), {}, 1);
    CHECK(!std::memcmp(dw.buffer.get(), dw2.buffer.get(), sizeof(T) * size_t(dw.size)));
  }
}

// Depthwise convolution (conv_depthwise.h) copies nothing, a last part of a vector neither.
void test_depthwise_runs_in_place() {
  const auto scratch = [](int64_t channels, Plan plan) {
    const Case c{2, channels, channels, channels, {9, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
    const Array<float> x(c.x()), w(c.w()), y(c.y());
    const std::vector<int64_t> ints = c.ints();
    const Tensor t[] = {y.tensor(), x.tensor(), w.tensor()};
    Work work;
    CHECK(!plan({t, 3, ints.data(), int(ints.size()), nullptr, 0, nullptr}, work));
    return work.scratch_bytes;
  };
  for (const Plan plan : {plan_conv, plan_conv_input_grad}) {
    CHECK(scratch(32, plan) == 0);
    CHECK(scratch(33, plan) == 0);
  }
}

void test_refusals() {
  const Case c{2, 4, 6, 2, {5, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  const Array<float> x(c.x()), w(c.w()), y(c.y());
  const Array<double> w64(c.w());
  auto refused = [&](std::vector<Tensor> t, std::vector<int64_t> ints) {
    Work work;
    const Call call{t.data(), int(t.size()), ints.data(), int(ints.size()), nullptr, 0, nullptr};
    return plan_conv(call, work) != nullptr;
  };
  const std::vector<Tensor> good{y.tensor(), x.tensor(), w.tensor()};
  CHECK(!refused(good, c.ints()));
  CHECK(refused({y.tensor(), x.tensor(), w64.tensor()}, c.ints()));
  CHECK(refused({y.tensor(), w.tensor(), x.tensor()}, c.ints()));
  CHECK(refused({y.tensor(), x.tensor()}, c.ints()));
  CHECK(refused(good, {}));
  for (size_t i = 0; i < c.ints().size(); ++i) {
    std::vector<int64_t> ints = c.ints();
    for (int64_t bad : {int64_t{-1}, int64_t{1} << 62}) {
      ints[i] = bad;
      CHECK(refused(good, ints));
    }
    ints[i] = 0;
    CHECK(refused(good, ints) == (i < 6));
  }
}

template <class T>
void test_all() {
  test_random<T>();
  test_chosen<T>();
  test_epilogues<T>();
  test_images_alone<T>();
}

}  // namespace

int main() {
  test_all<float>();
  test_all<double>();
  test_depthwise_runs_in_place();
  test_refusals();
  std::puts("conv: all cases agree");
}
