// pool, pool_grad, moments, centered_sums, layer_norm and layer_norm_grad against naive double
// loops: geometries of 1 to 3 axes, channels around the lane count, strided images, refused calls;
// one part against all, bit for bit.
#include "tests/kernel_runs.h"

using Ints = Shape;

static double normal() { return std::normal_distribution<double>()(generator); }

static void fill(const Array& x) {
  for (int64_t i = 0; i < x.size(); ++i) x.set(i, 1 + normal());
}
static void fill_integers(const Array& x) {
  for (int64_t i = 0; i < x.size(); ++i) x.set(i, double(random_below(17)) - 8);
}

static const Kernel kPool = DL_TESTED(pool), kPoolGrad = DL_TESTED(pool_grad),
                    kMoments = DL_TESTED(moments), kSums = DL_TESTED(centered_sums),
                    kLayer = DL_TESTED(layer_norm), kLayerGrad = DL_TESTED(layer_norm_grad);

static bool close(double a, double b, double scale, DType t) {
  return std::fabs(a - b) <= (t == DType::f32 ? 2e-6 : 1e-13) * (1 + scale);
}

struct Geometry {
  int d;
  int64_t in[3], out[3], size[3], stride[3], before[3];
  int64_t taps() const {
    int64_t n = 1;
    for (int a = 0; a < d; ++a) n *= size[a];
    return n;
  }
  // The place of a window's tap in the image, or -1; flat indices.
  int64_t place(int64_t window, int64_t tap) const {
    int64_t index = 0, step = 1;
    for (int a = d - 1; a >= 0; --a) {
      const int64_t h = window % out[a] * stride[a] + tap % size[a] - before[a];
      if (h < 0 || h >= in[a]) return -1;
      index += h * step, step *= in[a], window /= out[a], tap /= size[a];
    }
    return index;
  }
};

static Geometry random_geometry() {
  Geometry g{};
  g.d = 1 + int(random_below(3));
  for (int a = 0; a < g.d; ++a) {
    g.in[a] = 1 + random_below(9), g.size[a] = 1 + random_below(4),
    g.stride[a] = 1 + random_below(4);
    g.before[a] = random_below(g.size[a]);
    const int64_t most = (g.in[a] - 1 + g.before[a]) / g.stride[a] + 1;
    g.out[a] = 1 + random_below(most);
    if (random_below(2)) g.out[a] = most;
  }
  return g;
}

static void test_pool(DType dtype, int kind) {
  const Geometry g = random_geometry();
  const int64_t channels[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 70, 130};
  const int64_t n = random_below(4), c = channels[random_below(14)],
                layout = random_below(2) ? kGaps : kDense;
  Ints x_shape{n}, y_shape{n}, ints{kind, g.d};
  int64_t pixels = 1, windows = 1;
  for (int a = 0; a < g.d; ++a) {
    x_shape.push_back(g.in[a]), y_shape.push_back(g.out[a]);
    pixels *= g.in[a], windows *= g.out[a];
  }
  x_shape.push_back(c), y_shape.push_back(c);
  for (const int64_t* values : {g.size, g.stride, g.before})
    ints.insert(ints.end(), values, values + g.d);
  const DType index_type = random_below(2) ? DType::u8 : DType::i32;
  Array x(dtype, x_shape, layout), y(dtype, y_shape, layout), plain(dtype, y_shape);
  Array index(index_type, y_shape), dy(dtype, y_shape, layout), dx(dtype, x_shape, layout);
  fill_integers(x), fill_integers(dy);
  if (kind == 0) {
    run(kPool, {&y, &index, &x}, {ints, {}});
    run(kPool, {&plain, &x}, {ints, {}});
    run(kPoolGrad, {&dx, &dy, &index}, {ints, {}});
  } else {
    run(kPool, {&y, &x}, {ints, {}});
    run(kPoolGrad, {&dx, &dy}, {ints, {}});
  }
  std::vector<double> expected(n * pixels * c, 0.0);
  for (int64_t i = 0; i < n * windows * c; ++i) {
    const int64_t channel = i % c, window = i / c % windows, image = i / c / windows;
    double best = 0, sum = 0;
    int64_t count = 0, at = -1;
    const auto element = [&](int64_t tap) {
      const int64_t place = g.place(window, tap);
      return place < 0 ? -1 : (image * pixels + place) * c + channel;
    };
    for (int64_t tap = 0; tap < g.taps(); ++tap) {
      const int64_t e = element(tap);
      if (e < 0) continue;
      if (at < 0 || x[e] > best) best = x[e], at = tap;
      sum += x[e], ++count;
    }
    if (kind == 0) {
      CHECK(y[i] == best && index[i] == double(at) && plain[i] == best);
      expected[element(at)] += dy[i];
      continue;
    }
    const double share = kind == 1 ? double(count) : 1;
    CHECK(close(y[i], sum / share, 0, dtype));
    for (int64_t tap = 0; tap < g.taps(); ++tap)
      if (element(tap) >= 0) expected[element(tap)] += dy[i] / share;
  }
  for (size_t i = 0; i < expected.size(); ++i)
    CHECK(kind == 1 ? close(dx[i], expected[i], 8, dtype) : dx[i] == expected[i]);
}

static void test_moments(DType dtype, int64_t batch, int64_t rows, int64_t channels,
                         int64_t groups) {
  Array x(dtype, {batch, rows, channels}), dy(dtype, {batch, rows, channels});
  Array mean(dtype, {batch, groups}), variance(dtype, {batch, groups});
  Array center(dtype, {batch, channels}), s1(dtype, {batch, channels}),
      s2(dtype, {batch, channels});
  fill(x), fill(dy), fill(center);
  run(kMoments, {&mean, &variance, &x}, {{groups}, {}});
  run(kSums, {&s1, &s2, &dy, &x, &center}, {});
  const int64_t group = channels / groups;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t k = 0; k < groups; ++k) {
      double sum = 0, square = 0;
      const auto each = [&](auto f) {
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = k * group; c < (k + 1) * group; ++c) f(x[(b * rows + r) * channels + c]);
      };
      each([&](double v) { sum += v; });
      const double m = sum / double(rows * group);
      each([&](double v) { square += (v - m) * (v - m); });
      CHECK(close(mean[b * groups + k], m, 1, dtype));
      CHECK(close(variance[b * groups + k], square / double(rows * group), 1, dtype));
    }
    for (int64_t c = 0; c < channels; ++c) {
      double a = 0, z = 0, size = 0;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t i = (b * rows + r) * channels + c;
        a += dy[i], z += dy[i] * (x[i] - center[b * channels + c]);
        size += std::fabs(dy[i]) * (1 + std::fabs(x[i]) + std::fabs(center[b * channels + c]));
      }
      CHECK(close(s1[b * channels + c], a, size, dtype));
      CHECK(close(s2[b * channels + c], z, size, dtype));
    }
  }
}

static void test_rows(DType dtype, int64_t n, int64_t size, bool centered) {
  Array x(dtype, {n, size}), dy(dtype, {n, size}), gamma(dtype, {size}), beta(dtype, {size});
  Array y(dtype, {n, size}), only(dtype, {n, size}), mean(dtype, {n}), inv(dtype, {n});
  Array dx(dtype, {n, size}), dgamma(dtype, {size}), dbeta(dtype, {size});
  for (Array* a : {&x, &dy, &gamma, &beta}) fill(*a);
  run(kLayer, {&y, &mean, &inv, &x, &gamma, &beta}, {{centered}, {0.1}});
  run(kLayer, {&only, &x, &gamma, &beta}, {{centered}, {0.1}});
  CHECK(y.memory == only.memory);
  run(kLayerGrad, {&dx, &dgamma, &dbeta, &dy, &x, &mean, &inv, &gamma}, {{centered}, {}});
  std::vector<double> of_gamma(size), of_beta(size);
  const double few = double(size);
  for (int64_t i = 0; i < n; ++i) {
    double m = 0, square = 0, g = 0, gh = 0;
    for (int64_t c = 0; c < size; ++c) m += x[i * size + c] / few;
    if (!centered) m = 0;
    for (int64_t c = 0; c < size; ++c) square += std::pow(x[i * size + c] - m, 2) / few;
    const double s = 1 / std::sqrt(square + 0.1);
    CHECK(close(mean[i], m, 1, dtype) && close(inv[i], s, s, dtype));
    const auto h = [&](int64_t c) { return (x[i * size + c] - m) * s; };
    for (int64_t c = 0; c < size; ++c) {
      const double d = dy[i * size + c];
      g += d * gamma[c] / few, gh += d * gamma[c] * h(c) / few;
      of_gamma[c] += d * h(c), of_beta[c] += d;
      CHECK(close(y[i * size + c], h(c) * gamma[c] + beta[c], 10, dtype));
    }
    for (int64_t c = 0; c < size; ++c) {
      const double d = dy[i * size + c] * gamma[c] - (centered ? g : 0) - h(c) * gh;
      CHECK(close(dx[i * size + c], d * s, 20 * s, dtype));
    }
  }
  for (int64_t c = 0; c < size; ++c) {
    CHECK(close(dgamma[c], of_gamma[c], 4.0 * double(n), dtype));
    CHECK(close(dbeta[c], of_beta[c], 4.0 * double(n), dtype));
  }
}

static void test_refusals() {
  Array x(DType::f32, {2, 4, 4, 3}), y(DType::f32, {2, 2, 2, 3}), narrow(DType::u8, {2, 2, 2, 3});
  const Ints good{0, 2, 2, 2, 2, 2, 0, 0};
  CHECK(!refuses(kPool, {&y, &x}, {good, {}}) && !refuses(kPool, {&y, &narrow, &x}, {good, {}}));
  for (int64_t at : {0, 1, 2, 4, 6}) {  // kind, axes, size, stride, padding
    for (int64_t value : {int64_t(-1), int64_t(1) << 40}) {
      Ints bad = good;
      bad[at] = value;
      if (at == 4 && value > 0) continue;  // a long stride leaves one window inside
      CHECK(refuses(kPool, {&y, &x}, {bad, {}}));
    }
  }
  CHECK(refuses(kPool, {&y, &x}, {{0, 2, 2, 2, 2, 2, 0}, {}}));
  CHECK(refuses(kPool, {&y}, {good, {}}) && refuses(kPoolGrad, {&x, &y}, {good, {}}));
  CHECK(
      refuses(kPool, {&y, &x}, {{0, 2, 2, 2, 4, 4, 0, 0}, {}}));  // the second window lies outside
  Array wide(DType::f32, {2, 40, 40, 1}), one(DType::f32, {2, 1, 1, 1}),
      byte(DType::u8, {2, 1, 1, 1});
  CHECK(refuses(kPool, {&one, &byte, &wide}, {{0, 2, 17, 17, 1, 1, 0, 0}, {}}));
  Array rows(DType::f32, {2, 5, 6}), mean(DType::f32, {2, 4}), half(DType::f64, {2, 6});
  CHECK(refuses(kMoments, {&mean, &mean, &rows}, {{4}, {}}));
  CHECK(refuses(kMoments, {&half, &half, &rows}, {{6}, {}}));
  CHECK(refuses(kMoments, {&mean, &mean, &rows}, {{0}, {}}));
  CHECK(refuses(kLayer, {&y, &x, &x, &x}, {{1}, {}}));
}

int main() {
  for (DType dtype : {DType::f32, DType::f64}) {
    for (int i = 0; i < 600; ++i) test_pool(dtype, i % 3);
    const int64_t shapes[][4] = {
        {1, 1, 1, 1},    {1, 7, 3, 3},      {2, 50, 5, 5},  {1, 1000, 64, 64},
        {3, 40, 12, 4},  {1, 3000, 33, 33}, {2, 9, 100, 1}, {2, 17, 1030, 1030},
        {5, 1, 6, 2},    {1, 700, 300, 10}, {0, 5, 4, 4},   {70, 12, 16, 16},
        {1, 2049, 1, 1},
    };
    for (const auto& s : shapes) test_moments(dtype, s[0], s[1], s[2], s[3]);
    for (int64_t size : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1000})
      for (int64_t n : {0, 1, 3, 4, 6, 130}) test_rows(dtype, n, size, size % 2);
  }
  test_refusals();
  std::puts("pool_norm: ok");
}
