// softmax, softmax_grad and softmax_cross_entropy against naive double loops: odd sizes, any
// strides, extremes; one part against many parts and rows alone against rows together, bit for bit.
//   csrc/tests/run.sh softmax
#include <cstring>

#include "tests/kernel_runs.h"

static const Kernel kSoftmax = DL_TESTED(softmax), kSoftmaxGrad = DL_TESTED(softmax_grad),
                    kCrossEntropy = DL_TESTED(softmax_cross_entropy);

// Logits of many sizes, with rows of extremes.
static void fill_logits(const Array& x, int64_t n, int64_t c) {
  const double scales[] = {1, 1, 30, 1e-40, 1e20};
  for (int64_t i = 0; i < n; ++i) {
    const double scale = scales[random_below(5)];
    for (int64_t j = 0; j < c; ++j) x.set(i * c + j, random_in(-scale, scale));
    const int64_t at = i * c + random_below(c);
    switch (random_below(8)) {
      case 0:
        x.set(at, -kInf);
        break;
      case 1:
        x.set(at, kNaN);
        break;
      case 2:
        x.set(at, kInf);
        break;
      case 3:
        for (int64_t j = 0; j < c; ++j) x.set(i * c + j, -kInf);
        break;
      case 4:  // all but one masked
        for (int64_t j = 0; j < c; ++j) {
          if (i * c + j != at) x.set(i * c + j, -kInf);
        }
        break;
    }
  }
}

struct RowSums {
  double top;
  long double sum;
};

static RowSums row_sums(const Array& x, int64_t i, int64_t c) {
  double top = -kInf;
  long double sum = 0;
  for (int64_t j = 0; j < c; ++j) top = std::max(top, x[i * c + j]);
  for (int64_t j = 0; j < c; ++j) sum += std::exp(static_cast<long double>(x[i * c + j]) - top);
  return {top, sum};
}

static void check_softmax(DType dtype, int64_t n, int64_t c, int layout_x, int layout_y,
                          int64_t kind) {
  Array x(dtype, {n, c}, layout_x), y(dtype, {n, c}, layout_y), dy(dtype, {n, c}, layout_y),
      dx(dtype, {n, c}, layout_x);
  fill_logits(x, n, c);
  run(kSoftmax, {&y, &x}, {{kind}, {}});
  const double eps = epsilon_of(dtype), sum_error = 8 + c / 64.,
               least = dtype == DType::f32 ? 2e-38 : 4e-308;
  for (int64_t i = 0; i < n; ++i) {
    const auto [top, sum] = row_sums(x, i, c);
    for (int64_t j = 0; j < c; ++j) {
      const double z = x[i * c + j] - top, p = std::exp(z) / sum;
      const double spread = std::isfinite(z) ? std::abs(z) : 0;
      if (kind == 0)
        CHECK(near(y[i * c + j], p, eps * (sum_error + spread) * p + least));
      else
        CHECK(near(y[i * c + j], z - std::log(sum), eps * (sum_error + spread)));
    }
  }
  // one row alone, and in place
  for (int64_t i = 0; i < n; ++i) {
    Array row(dtype, {1, c});
    for (int64_t j = 0; j < c; ++j) row.set(j, x[i * c + j]);
    run(kSoftmax, {&row, &row}, {{kind}, {}}, 0);
    for (int64_t j = 0; j < c; ++j)
      CHECK(std::memcmp(row.at(j), y.at(i * c + j), size_of(dtype)) == 0 ||
            std::isnan(y[i * c + j]));
  }
  dy.fill(-1, 1);
  run(kSoftmaxGrad, {&dx, &dy, &y}, {{kind}, {}});
  for (int64_t i = 0; i < n; ++i) {
    double dot = 0, magnitude = 0;
    for (int64_t j = 0; j < c; ++j) {
      const double term = dy[i * c + j] * (kind ? 1 : y[i * c + j]);
      dot += term;
      magnitude += std::abs(term);
    }
    for (int64_t j = 0; j < c; ++j) {
      const double g = dy[i * c + j], p = y[i * c + j];
      const double exact = kind ? g - std::exp(p) * dot : p * (g - dot);
      const double factor = std::isnan(p) ? 0 : kind ? std::exp(p) : p;
      CHECK(near(dx[i * c + j], exact, eps * (4 * factor * (magnitude + 1) + 2 * std::abs(g))));
    }
  }
}

static void check_cross_entropy(DType dtype, DType label_type, int64_t n, int64_t c, int layout_x,
                                int layout_y) {
  const bool dense = label_type == DType::f32 || label_type == DType::f64;
  Array x(dtype, {n, c}, layout_x), delta(dtype, {n, c}, layout_y), loss(dtype, {n}, layout_y);
  Array labels(label_type, dense ? Shape{n, c} : Shape{n}, layout_x);
  fill_logits(x, n, c);
  if (dense) {
    labels.fill(0, 1);
    for (int64_t i = 0; i < n * c; ++i) {
      if (random_below(3) == 0) labels.set(i, 0);
    }
  } else {
    for (int64_t i = 0; i < n; ++i)
      labels.set(i, random_below(9) ? random_below(c) : random_below(2) ? c : -1);
  }
  run(kCrossEntropy, {&loss, &delta, &x, &labels}, {});
  const double eps = epsilon_of(dtype);
  for (int64_t i = 0; i < n; ++i) {
    const auto [top, sum] = row_sums(x, i, c);
    const double label = dense ? 0 : labels[i];
    const bool valid = label >= 0 && label < c;
    double total = 0, product = 0, magnitude = 0, spread = 0;
    for (int64_t j = 0; j < c; ++j) {
      const double t =
          dense ? static_cast<double>(dtype == DType::f32 ? static_cast<float>(labels[i * c + j])
                                                          : labels[i * c + j])
                : j == label;
      const double z = x[i * c + j] - top;
      total += t;
      if (t == 0) continue;
      product += t * z;
      magnitude += std::abs(t * z);
    }
    const double exact = valid ? total * std::log(sum) - product : kNaN;
    CHECK(near(
        loss[i], exact,
        eps * (c + 8) * (std::isfinite(magnitude) ? magnitude + total * (1 + std::log(c)) : 1)));
    for (int64_t j = 0; j < c; ++j) {
      const double t = dense ? labels[i * c + j] : j == label;
      const double z = x[i * c + j] - top;
      spread = std::isfinite(z) ? std::min(std::abs(z), 100.) : 0;
      const double d = valid ? total * std::exp(z) / sum - t : kNaN;
      CHECK(near(delta[i * c + j], d, eps * (8 + c / 64. + spread) * (total + 1)));
    }
  }
  for (int64_t i = 0; i < n; ++i) {  // one row alone
    Array row(dtype, {1, c}), one(dtype, {1}), label(label_type, dense ? Shape{1, c} : Shape{1});
    for (int64_t j = 0; j < c; ++j) row.set(j, x[i * c + j]);
    for (int64_t j = 0; j < label.size(); ++j) label.set(j, labels[dense ? i * c + j : i]);
    run(kCrossEntropy, {&one, &row, &row, &label}, {}, 0);
    CHECK(std::memcmp(one.at(0), loss.at(i), size_of(dtype)) == 0 || std::isnan(loss[i]));
    for (int64_t j = 0; j < c; ++j)
      CHECK(std::memcmp(row.at(j), delta.at(i * c + j), size_of(dtype)) == 0 ||
            std::isnan(delta[i * c + j]));
  }
}

static void test_softmax() {
  for (DType dtype : {DType::f32, DType::f64}) {
    for (int64_t c : {1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 64, 100, 1000, 1003, 5000}) {
      for (int64_t n : {1, 2, 7, 16, 33, 600}) {
        if (n * c > 40000) continue;
        for (int layout = 0; layout < kLayouts; ++layout) {
          for (int64_t kind : {0, 1})
            check_softmax(dtype, n, c, layout, (layout + random_below(2)) % kLayouts, kind);
          for (DType label : {DType::f32, DType::f64, DType::i32, DType::i64})
            check_cross_entropy(dtype, label, n, c, layout, (layout + random_below(2)) % kLayouts);
        }
      }
    }
  }
  Array x(DType::f32, {3, 4, 5}), y(DType::f32, {3, 4, 5}, kFortran), flat(DType::f32, {12, 5});
  x.fill(-2, 2);
  for (int64_t i = 0; i < 60; ++i) flat.set(i, x[i]);
  run(kSoftmax, {&y, &x}, {{0}, {}});
  run(kSoftmax, {&flat, &flat}, {{0}, {}}, 0);
  for (int64_t i = 0; i < 60; ++i) CHECK(y[i] == flat[i]);
  for (Shape shape : {Shape{0, 5}, Shape{5, 0}}) {
    Array none(DType::f32, shape), loss(DType::f32, {shape[0]}), labels(DType::i32, {shape[0]});
    run(kSoftmax, {&none, &none}, {{0}, {}});
    run(kSoftmaxGrad, {&none, &none, &none}, {{0}, {}});
    for (int64_t i = 0; i < labels.size(); ++i) labels.set(i, 0);
    run(kCrossEntropy, {&loss, &none, &none, &labels}, {});
    for (int64_t i = 0; i < loss.size(); ++i) CHECK(std::isnan(loss[i]));
  }
  Array bytes(DType::u8, {2, 300}), logits(DType::f32, {2, 300}), loss(DType::f32, {2}),
      byte_labels(DType::u8, {2});
  logits.fill(-1, 1);
  byte_labels.set(0, 255), byte_labels.set(1, 3);
  run(kCrossEntropy, {&loss, &logits, &logits, &byte_labels}, {}, 0);
  CHECK(logits[255] < 0 && logits[303] < 0 && logits[3] > 0);
  CHECK(refuses(kSoftmax, {&logits, &bytes}, {{0}, {}}) &&
        refuses(kSoftmax, {&logits, &logits}, {{2}, {}}));
  CHECK(refuses(kCrossEntropy, {&loss, &logits, &logits, &loss}, {}) &&
        refuses(kSoftmax, {&logits}, {{0}, {}}));
}

int main() {
  test_softmax();
  std::puts("ok");
}
