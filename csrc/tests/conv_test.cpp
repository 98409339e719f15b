// Convolution and both gradients against naive loops over small integers, where every sum is exact:
// geometries, layouts, parts, bits, and which way each goes.        csrc/tests/run.sh conv
#include <cstring>
#include <utility>
#include <vector>

#include "cpu/kernels/conv_plan.h"
#include "tests/conv_cases.h"

namespace {

// Elements of the forward pass and both gradients, each at some place of plain arrays.
template <class T>
struct Sums {
  const T *x, *w, *dy;
  T *y, *dx, *dw;
};

// The products of one output pixel and one tap. Unchecked: the sanitizers' checks here would be
// most of the test's time.
template <class T>
__attribute__((no_sanitize("address"), no_sanitize("undefined"))) void add_products(const Case& c,
                                                                                    Sums<T> at) {
  const int64_t groups = c.groups, filters = c.filters, C = c.channels / groups,
                K = filters / groups;
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t i = g * C; i < (g + 1) * C; ++i) {
      for (int64_t k = g * K; k < (g + 1) * K; ++k) {
        const int64_t weight = (i - g * C) * filters + k;
        at.y[k] += at.x[i] * at.w[weight];
        at.dx[i] += at.dy[k] * at.w[weight];
        at.dw[weight] += at.x[i] * at.dy[k];
      }
    }
  }
}

template <class T>
void add_products_of_all(const Case& c, const Sums<T>& s) {
  Shape outputs = c.y();
  outputs.pop_back();
  int64_t y = 0;
  each(outputs, [&](const Shape& out) {
    int64_t w = 0;
    each(c.size, [&](const Shape& tap) {
      int64_t x = out[0];
      bool inside = true;
      for (size_t a = 0; a < c.in.size(); ++a) {
        const int64_t at = out[a + 1] * c.stride[a] - c.before[a] + tap[a] * c.dilation[a];
        inside = inside && at >= 0 && at < c.in[a];
        x = x * c.in[a] + at;
      }
      x *= c.channels;
      if (inside) add_products<T>(c, {s.x + x, s.w + w, s.dy + y, s.y + y, s.dx + x, s.dw + w});
      w += c.channels / c.groups * c.filters;
    });
    y += c.filters;
  });
}

template <class T>
Array<T> plain(const Array<T>& a) {
  Array<T> copy(a.shape, Array<T>::plain, 0);
  int64_t i = 0;
  each(a.shape, [&](const Shape& at) { copy.buffer[i++] = a.at(at); });
  return copy;
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
  const Array<T> plain_x = plain(x), plain_w = plain(w), plain_dy = plain(dy);
  Array<T> y(c.y(), layout, 0), dx(c.x(), layout, 0), dw(c.w(), layout, 0);
  Array<T> y0(c.y(), Array<T>::plain, 0), dx0(c.x(), Array<T>::plain, 0),
      dw0(c.w(), Array<T>::plain, 0);
  for (Array<T>* a : {&y, &dx, &dw}) a->fill(T(77));
  add_products_of_all<T>(c, {plain_x.buffer.get(), plain_w.buffer.get(), plain_dy.buffer.get(),
                             y0.buffer.get(), dx0.buffer.get(), dw0.buffer.get()});
  const std::vector<int64_t> ints = c.ints();
  run(forward, {y.tensor(), x.tensor(), w.tensor()}, ints, {}, step);
  check_equal(y, y0, "forward", c);
  run(input_grad, {dx.tensor(), dy.tensor(), w.tensor()}, ints, {}, step);
  check_equal(dx, dx0, "input gradient", c);
  run(filter_grad, {dw.tensor(), x.tensor(), dy.tensor()}, ints, {}, step);
  check_equal(dw, dw0, "filter gradient", c);
}

template <class T>
void test_random() {
  for (int i = 0; i < 600; ++i) {
    const Case c = random_case(pick(1, 3), pick(0, 2) ? 6 : 20);
    check_case<T>(i % 20 ? c : winograd_case(), Layout<T>(pick(0, 1) ? 0 : pick(0, 2)), pick(0, 2));
  }
}

// Images and filters as wide as high.
Case square(int64_t n, int64_t channels, int64_t filters, int64_t groups, int64_t in, int64_t size,
            int64_t stride, int64_t dilation, int64_t pad) {
  const auto two = [](int64_t v) { return Shape{v, v}; };
  return {n,         channels,    filters,       groups,   two(in),
          two(size), two(stride), two(dilation), two(pad), two(pad)};
}

// Shapes that reach what random ones seldom do: several boxes, panels, cells, chunks, channel
// steps.
template <class T>
void test_chosen() {
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

enum class Way { tiles, across_groups, depthwise, winograd };

// By the plan that the kernel prepares, which is what it then runs by.
Way way_of(const Functions& kernel, const Case& c) {
  const Array<float> x(c.x()), w(c.w()), y(c.y());
  const std::vector<int64_t> ints = c.ints();
  Tensor t[] = {y.tensor(), x.tensor(), w.tensor()};
  if (kernel.plan == plan_conv_input_grad) std::swap(t[0], t[1]);
  if (kernel.plan == plan_conv_filter_grad) std::swap(t[0], t[2]);
  Conv made{};
  Work work;
  Call call{t, 3, ints.data(), int(ints.size()), nullptr, 0, nullptr};
  call.prepared = &made;
  CHECK(!kernel.plan(call, work) && work.prepared_bytes == sizeof made);
  if (made.winograd) return Way::winograd;
  if (made.depthwise) return Way::depthwise;
  return made.wide ? Way::across_groups : Way::tiles;
}

// Cases of each are above.
void test_ways() {
  const int64_t L = kLanes<float>;
  for (const Functions& kernel : {forward, input_grad, filter_grad}) {
    // groups of 2 and 4 channels, as many or fewer filters; of channels for a whole vector
    CHECK(way_of(kernel, square(2, 32, 32, 16, 9, 3, 2, 1, 1)) == Way::across_groups);
    CHECK(way_of(kernel, square(2, 64, 64, 16, 14, 3, 1, 1, 1)) == Way::across_groups);
    CHECK(way_of(kernel, square(2, 52, 52, 13, 9, 3, 1, 2, 2)) == Way::across_groups);
    CHECK(way_of(kernel, square(1, 24, 48, 12, 8, 2, 1, 1, 0)) == Way::across_groups);
    CHECK(way_of(kernel, square(1, 48, 24, 12, 8, 2, 1, 1, 0)) == Way::across_groups);
    CHECK(way_of(kernel, square(1, 3 * L, 3 * L, 3, 9, 3, 1, 1, 1)) == Way::tiles);
    CHECK(way_of(kernel, square(2, 48, 48, 48, 14, 3, 1, 1, 1)) == Way::depthwise);
    CHECK(way_of(kernel, square(2, 48, 48, 48, 15, 3, 2, 1, 1)) == Way::depthwise);
    CHECK(way_of(kernel, square(5, 32, 80, 1, 7, 3, 1, 1, 1)) == Way::winograd);
    CHECK(way_of(kernel, square(2, 144, 48, 1, 8, 3, 1, 1, 2)) == Way::winograd);
    CHECK(way_of(kernel, square(3, 32, 64, 1, 13, 3, 2, 1, 1)) == Way::tiles);  // of a stride
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
  test_images_alone<T>();
}

}  // namespace

int main() {
  test_all<float>();
  test_all<double>();
  test_ways();
  test_depthwise_runs_in_place();
  test_refusals();
  std::puts("conv: all cases agree");
}
