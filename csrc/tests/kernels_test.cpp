// softmax, softmax_grad, softmax_cross_entropy, gather, scatter_add and random against naive double
// loops: odd sizes, any strides, every dtype, extremes; one part against many parts and rows alone
// against rows together, bit for bit.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "common/philox.h"
#include "cpu/kernels/level.h"
#include "tests/check.h"

using namespace dl;
using Shape = std::vector<int64_t>;

static std::mt19937_64 generator(1);
static double random_in(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(generator);
}
static int64_t random_below(int64_t n) { return static_cast<int64_t>(generator() % n); }

enum Layout {
  kDense,
  kFortran,
  kBackwards,
  kOffset,
  kLayouts
};  // kBackwards: each second element, last axis reversed

// A tensor with its memory, which is exactly as long as it must be, so that the address sanitizer
// sees a stray access.
struct Array {
  std::vector<char> memory;
  Tensor t{};

  Array(DType dtype, const Shape& shape, int layout = kDense) {
    t.dtype = dtype;
    t.rank = static_cast<int>(shape.size());
    int64_t run = layout == kBackwards ? 2 : 1, start = layout == kOffset;
    for (int i = 0; i < t.rank; ++i) {
      const int a = layout == kFortran ? i : t.rank - 1 - i;
      t.shape[a] = shape[a];
      t.stride[a] = run;
      run *= shape[a];
    }
    if (layout == kBackwards && t.rank > 0 && shape.back() > 0) {
      start = (shape.back() - 1) * 2;
      t.stride[t.rank - 1] = -2;
    }
    memory.assign((run + start) * size_of(dtype), 0x5A);
    t.data = memory.data() + start * size_of(dtype);
  }
  int64_t size() const {
    int64_t n = 1;
    for (int a = 0; a < t.rank; ++a) n *= t.shape[a];
    return n;
  }
  char* at(int64_t i) const {
    int64_t offset = 0;
    for (int a = t.rank - 1; a >= 0; --a) {
      offset += i % t.shape[a] * t.stride[a];
      i /= t.shape[a];
    }
    return t.data + offset * size_of(t.dtype);
  }
  template <class T>
  T& as(int64_t i) const {
    return *reinterpret_cast<T*>(at(i));
  }
  double get(int64_t i) const {
    switch (t.dtype) {
      case DType::f32:
        return as<float>(i);
      case DType::f64:
        return as<double>(i);
      case DType::i32:
        return as<int32_t>(i);
      case DType::i64:
        return static_cast<double>(as<int64_t>(i));
      default:
        return as<uint8_t>(i);
    }
  }
  void set(int64_t i, double x) const {
    switch (t.dtype) {
      case DType::f32:
        as<float>(i) = static_cast<float>(x);
        break;
      case DType::f64:
        as<double>(i) = x;
        break;
      case DType::i32:
        as<int32_t>(i) = static_cast<int32_t>(x);
        break;
      case DType::i64:
        as<int64_t>(i) = static_cast<int64_t>(x);
        break;
      case DType::u8:
        as<uint8_t>(i) = static_cast<uint8_t>(x);
        break;
      default:
        as<uint8_t>(i) = x != 0;
    }
  }
  void fill(double low, double high) const {
    for (int64_t i = 0; i < size(); ++i) set(i, random_in(low, high));
  }
};

struct Attributes {
  std::vector<int64_t> ints;
  std::vector<double> floats;
};

#define DL_TESTED(name) \
  Kernel { #name, DL_LEVEL::plan_##name, DL_LEVEL::run_##name }
static const Kernel kSoftmax = DL_TESTED(softmax), kSoftmaxGrad = DL_TESTED(softmax_grad),
                    kCrossEntropy = DL_TESTED(softmax_cross_entropy), kGather = DL_TESTED(gather),
                    kScatterAdd = DL_TESTED(scatter_add), kRandom = DL_TESTED(random);
#undef DL_TESTED

static const char* plan(const Kernel& k, const std::vector<const Array*>& arrays,
                        const Attributes& a, Work& work) {
  std::vector<Tensor> tensors;
  for (const Array* x : arrays) tensors.push_back(x->t);
  const Call call{tensors.data(),  static_cast<int>(tensors.size()),
                  a.ints.data(),   static_cast<int>(a.ints.size()),
                  a.floats.data(), static_cast<int>(a.floats.size()),
                  nullptr};
  return k.plan(call, work);
}

// Runs all parts in calls of `parts_per_call` (0: one call).
static void run(const Kernel& k, const std::vector<const Array*>& arrays, const Attributes& a,
                int64_t parts_per_call) {
  Work work;
  const char* refusal = plan(k, arrays, a, work);
  if (refusal) std::fprintf(stderr, "%s\n", refusal);
  CHECK(!refusal && work.phases == 1 && work.parts[0] >= 1);
  std::vector<Tensor> tensors;
  for (const Array* x : arrays) tensors.push_back(x->t);
  const Call call{tensors.data(),  static_cast<int>(tensors.size()),
                  a.ints.data(),   static_cast<int>(a.ints.size()),
                  a.floats.data(), static_cast<int>(a.floats.size()),
                  nullptr};
  const int64_t n = parts_per_call ? parts_per_call : work.parts[0];
  for (int64_t p = 0; p < work.parts[0]; p += n) {
    std::vector<char> scratch(work.scratch_bytes, 0x33);
    k.run(call, 0, p, std::min(p + n, work.parts[0]), scratch.data());
  }
}

// Runs twice, cut differently: the outputs (the first n_outputs) must have the same bits.
static void run(const Kernel& k, const std::vector<const Array*>& arrays, const Attributes& a,
                int n_outputs = 1) {
  run(k, arrays, a, int64_t{0});
  std::vector<std::vector<char>> once;
  for (int i = 0; i < n_outputs; ++i) once.push_back(arrays[i]->memory);
  run(k, arrays, a, int64_t{1});
  for (int i = 0; i < n_outputs; ++i) CHECK(once[i] == arrays[i]->memory);
}

static bool refuses(const Kernel& k, const std::vector<const Array*>& arrays, const Attributes& a) {
  Work work;
  return plan(k, arrays, a, work) != nullptr;
}

static double epsilon_of(DType t) { return t == DType::f32 ? 0x1p-23 : 0x1p-52; }

static bool near(double y, double exact, double tolerance) {
  if (std::isnan(exact) || std::isinf(exact)) return std::isnan(exact) ? std::isnan(y) : y == exact;
  return std::abs(y - exact) <= tolerance;
}

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

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
  for (int64_t j = 0; j < c; ++j) top = std::max(top, x.get(i * c + j));
  for (int64_t j = 0; j < c; ++j) sum += std::exp(static_cast<long double>(x.get(i * c + j)) - top);
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
      const double z = x.get(i * c + j) - top, p = std::exp(z) / sum;
      const double spread = std::isfinite(z) ? std::abs(z) : 0;
      if (kind == 0)
        CHECK(near(y.get(i * c + j), p, eps * (sum_error + spread) * p + least));
      else
        CHECK(near(y.get(i * c + j), z - std::log(sum), eps * (sum_error + spread)));
    }
  }
  // one row alone, and in place
  for (int64_t i = 0; i < n; ++i) {
    Array row(dtype, {1, c});
    for (int64_t j = 0; j < c; ++j) row.set(j, x.get(i * c + j));
    run(kSoftmax, {&row, &row}, {{kind}, {}}, int64_t{0});
    for (int64_t j = 0; j < c; ++j)
      CHECK(std::memcmp(row.at(j), y.at(i * c + j), size_of(dtype)) == 0 ||
            std::isnan(y.get(i * c + j)));
  }
  dy.fill(-1, 1);
  run(kSoftmaxGrad, {&dx, &dy, &y}, {{kind}, {}});
  for (int64_t i = 0; i < n; ++i) {
    double dot = 0, magnitude = 0;
    for (int64_t j = 0; j < c; ++j) {
      const double term = dy.get(i * c + j) * (kind ? 1 : y.get(i * c + j));
      dot += term;
      magnitude += std::abs(term);
    }
    for (int64_t j = 0; j < c; ++j) {
      const double g = dy.get(i * c + j), p = y.get(i * c + j);
      const double exact = kind ? g - std::exp(p) * dot : p * (g - dot);
      const double factor = std::isnan(p) ? 0 : kind ? std::exp(p) : p;
      CHECK(near(dx.get(i * c + j), exact, eps * (4 * factor * (magnitude + 1) + 2 * std::abs(g))));
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
  run(kCrossEntropy, {&loss, &delta, &x, &labels}, {}, 2);
  const double eps = epsilon_of(dtype);
  for (int64_t i = 0; i < n; ++i) {
    const auto [top, sum] = row_sums(x, i, c);
    const double label = dense ? 0 : labels.get(i);
    const bool valid = label >= 0 && label < c;
    double total = 0, product = 0, magnitude = 0, spread = 0;
    for (int64_t j = 0; j < c; ++j) {
      const double t = dense ? static_cast<double>(dtype == DType::f32
                                                       ? static_cast<float>(labels.get(i * c + j))
                                                       : labels.get(i * c + j))
                             : j == label;
      const double z = x.get(i * c + j) - top;
      total += t;
      if (t == 0) continue;
      product += t * z;
      magnitude += std::abs(t * z);
    }
    const double exact = valid ? total * std::log(sum) - product : kNaN;
    CHECK(near(
        loss.get(i), exact,
        eps * (c + 8) * (std::isfinite(magnitude) ? magnitude + total * (1 + std::log(c)) : 1)));
    for (int64_t j = 0; j < c; ++j) {
      const double t = dense ? labels.get(i * c + j) : j == label;
      const double z = x.get(i * c + j) - top;
      spread = std::isfinite(z) ? std::min(std::abs(z), 100.) : 0;
      const double d = valid ? total * std::exp(z) / sum - t : kNaN;
      CHECK(near(delta.get(i * c + j), d, eps * (8 + c / 64. + spread) * (total + 1)));
    }
  }
  for (int64_t i = 0; i < n; ++i) {  // one row alone
    Array row(dtype, {1, c}), one(dtype, {1}), label(label_type, dense ? Shape{1, c} : Shape{1});
    for (int64_t j = 0; j < c; ++j) row.set(j, x.get(i * c + j));
    for (int64_t j = 0; j < label.size(); ++j) label.set(j, labels.get(dense ? i * c + j : i));
    run(kCrossEntropy, {&one, &row, &row, &label}, {}, int64_t{0});
    CHECK(std::memcmp(one.at(0), loss.at(i), size_of(dtype)) == 0 || std::isnan(loss.get(i)));
    for (int64_t j = 0; j < c; ++j)
      CHECK(std::memcmp(row.at(j), delta.at(i * c + j), size_of(dtype)) == 0 ||
            std::isnan(delta.get(i * c + j)));
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
  for (int64_t i = 0; i < 60; ++i) flat.set(i, x.get(i));
  run(kSoftmax, {&y, &x}, {{0}, {}});
  run(kSoftmax, {&flat, &flat}, {{0}, {}}, int64_t{0});
  for (int64_t i = 0; i < 60; ++i) CHECK(y.get(i) == flat.get(i));
  for (Shape shape : {Shape{0, 5}, Shape{5, 0}}) {
    Array none(DType::f32, shape), loss(DType::f32, {shape[0]}), labels(DType::i32, {shape[0]});
    run(kSoftmax, {&none, &none}, {{0}, {}});
    run(kSoftmaxGrad, {&none, &none, &none}, {{0}, {}});
    for (int64_t i = 0; i < labels.size(); ++i) labels.set(i, 0);
    run(kCrossEntropy, {&loss, &none, &none, &labels}, {}, 2);
    for (int64_t i = 0; i < loss.size(); ++i) CHECK(std::isnan(loss.get(i)));
  }
  Array bytes(DType::u8, {2, 300}), logits(DType::f32, {2, 300}), loss(DType::f32, {2}),
      byte_labels(DType::u8, {2});
  logits.fill(-1, 1);
  byte_labels.set(0, 255), byte_labels.set(1, 3);
  run(kCrossEntropy, {&loss, &logits, &logits, &byte_labels}, {}, int64_t{0});
  CHECK(logits.get(255) < 0 && logits.get(303) < 0 && logits.get(3) > 0);
  CHECK(refuses(kSoftmax, {&logits, &bytes}, {{0}, {}}) &&
        refuses(kSoftmax, {&logits, &logits}, {{2}, {}}));
  CHECK(refuses(kCrossEntropy, {&loss, &logits, &logits, &loss}, {}) &&
        refuses(kSoftmax, {&logits}, {{0}, {}}));
}

static double as_stored(DType to, double x, DType from) {
  switch (to) {
    case DType::f32:
      return static_cast<float>(x);
    case DType::f64:
      return x;
    case DType::b8:
      return x != 0;
    case DType::u8:
      return static_cast<uint8_t>(static_cast<int64_t>(x));
    default:
      (void)from;
      return std::trunc(x);
  }
}

static void check_gather(DType to, DType from, DType index_type, int64_t v, int64_t l, Shape rest,
                         int layout) {
  Shape table_shape = rest, out_shape = rest;
  table_shape.insert(table_shape.begin(), v);
  out_shape.insert(out_shape.begin(), l);
  Array table(from, table_shape, layout), out(to, out_shape, (layout + random_below(2)) % kLayouts);
  Array index(index_type, {l}, layout);
  table.fill(from == DType::u8 || from == DType::b8 ? 0 : -100, 100);
  for (int64_t i = 0; i < l; ++i)
    index.set(i, v && random_below(8) ? random_below(v) : random_in(-1e9, 1e9));
  if (l && index_type == DType::i64) index.as<int64_t>(0) = std::numeric_limits<int64_t>::min();
  run(kGather, {&out, &table, &index}, {});
  const int64_t row = l ? out.size() / l : 0;
  for (int64_t i = 0; i < l; ++i) {
    const double at = index.get(i);
    for (int64_t j = 0; j < row; ++j) {
      const double x = at >= 0 && at < v ? table.get(static_cast<int64_t>(at) * row + j) : 0;
      CHECK(out.get(i * row + j) == as_stored(to, x, from));
    }
  }
}

template <class T>
static void check_scatter_add(DType dtype, DType index_type, int64_t v, int64_t l, Shape rest,
                              int layout) {
  Shape rows_shape = rest, out_shape = rest;
  rows_shape.insert(rows_shape.begin(), l);
  out_shape.insert(out_shape.begin(), v);
  Array rows(dtype, rows_shape, layout),
      out(dtype, out_shape, (layout + random_below(2)) % kLayouts);
  Array index(index_type, {l}, layout);
  rows.fill(-1, 1);
  for (int64_t i = 0; i < l; ++i)
    index.set(i, v && random_below(8) ? random_below(v) : random_in(-1e9, 1e9));
  if (l && index_type == DType::i64) index.as<int64_t>(0) = std::numeric_limits<int64_t>::min();
  run(kScatterAdd, {&out, &rows, &index}, {});
  const int64_t row = l ? rows.size() / l : 0;
  std::vector<T> sums(out.size());
  for (int64_t i = 0; i < l; ++i) {
    const double at = index.get(i);
    if (at < 0 || at >= v) continue;
    for (int64_t j = 0; j < row; ++j)
      sums[static_cast<int64_t>(at) * row + j] += rows.as<T>(i * row + j);
  }
  for (int64_t i = 0; i < out.size(); ++i) CHECK(out.as<T>(i) == sums[i]);
  Array base(dtype, out_shape, layout);
  for (int64_t i = 0; i < out.size(); ++i) base.set(i, sums[i] = static_cast<T>(i % 7));
  for (int64_t i = 0; i < l; ++i) {
    const double at = index.get(i);
    if (at < 0 || at >= v) continue;
    for (int64_t j = 0; j < row; ++j)
      sums[static_cast<int64_t>(at) * row + j] += rows.as<T>(i * row + j);
  }
  run(kScatterAdd, {&out, &rows, &index, &base}, {});
  for (int64_t i = 0; i < out.size(); ++i) CHECK(out.as<T>(i) == sums[i]);
}

static void test_gather() {
  const DType dtypes[] = {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::b8};
  const Shape rests[] = {{}, {1}, {2}, {7}, {16}, {33}, {784}, {5, 3}, {2, 1, 9}, {0}, {3, 4, 5}};
  for (int layout = 0; layout < kLayouts; ++layout) {
    for (const Shape& rest : rests) {
      for (DType to : dtypes) {
        for (DType from : dtypes)
          check_gather(to, from, random_below(2) ? DType::i32 : DType::i64, 13, 21, rest, layout);
      }
      for (DType index : {DType::i32, DType::i64}) {
        check_scatter_add<float>(DType::f32, index, 13, 41, rest, layout);
        check_scatter_add<double>(DType::f64, index, 200, 700, rest, layout);
      }
    }
    check_gather(DType::f32, DType::f32, DType::i64, 0, 9, {4}, layout);
    check_gather(DType::f32, DType::f32, DType::i64, 9, 0, {4}, layout);
    check_gather(DType::i64, DType::u8, DType::i64, 300, 20000, {}, layout);
    check_scatter_add<float>(DType::f32, DType::i64, 3000, 1500, {16}, layout);
  }
  Array out(DType::f32, {3, 4}), table(DType::f32, {5, 3}), index(DType::i64, {3}),
      bad(DType::f32, {3});
  CHECK(refuses(kGather, {&out, &table, &index}, {}) && refuses(kGather, {&out, &out, &bad}, {}));
  CHECK(refuses(kScatterAdd, {&out, &table, &index}, {}));
}

static void test_philox() {  // known answers of Random123, tests/kat_vectors
  const auto check = [](uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed,
                        std::vector<uint32_t> words) {
    const PhiloxWords w = philox(static_cast<uint64_t>(c1) << 32 | c0, c2, c3, seed);
    for (int k = 0; k < 4; ++k) CHECK(w.word[k] == words[k]);
  };
  check(0, 0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check(~0u, ~0u, ~0u, ~0u, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0x299f31d0a4093822,
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

static double bits53(uint32_t u, uint32_t v) { return (u >> 5) * 67108864.0 + (v >> 6); }

struct Drawn {
  double value, tolerance;
};

// What random must give for element i, from the scalar generator.
static Drawn drawn(DType dtype, const Attributes& a, int64_t step, int64_t i) {
  const auto block = [&](int64_t b) {
    return philox(b, static_cast<uint32_t>(a.ints[2]), static_cast<uint32_t>(step), a.ints[1]);
  };
  const bool f64 = dtype == DType::f64;
  if (a.ints[0] == 2) return {block(i / 4).word[i % 4] < a.floats[0] * 4294967296.0 ? 1.0 : 0.0, 0};
  if (a.ints[0] == 0 && !f64) {
    const float low = static_cast<float>(a.floats[0]), high = static_cast<float>(a.floats[1]);
    const float width = static_cast<float>(static_cast<double>(high) - low);
    const double t = (block(i / 4).word[i % 4] >> 8) / 16777216.0;
    return {std::min(static_cast<float>(low + t * width), std::nextafter(high, low)), 0};
  }
  if (a.ints[0] == 0) {
    const PhiloxWords w = block(i / 2);
    volatile double product = bits53(w.word[2 * (i % 2)], w.word[2 * (i % 2) + 1]) * 0x1p-53 *
                              (a.floats[1] - a.floats[0]);
    return {std::min(product + a.floats[0], std::nextafter(a.floats[1], a.floats[0])), 0};
  }
  const PhiloxWords w = block(f64 ? i / 2 : i / 4);
  const int first = i % 4 / 2 * 2;
  const double u =
      f64 ? (bits53(w.word[0], w.word[1]) + 0.5) * 0x1p-53 : (w.word[first] + 0.5) * 0x1p-32;
  const double v =
      f64 ? bits53(w.word[2], w.word[3]) * 0x1p-53 : (w.word[first + 1] >> 8) / 16777216.0;
  const double radius = std::sqrt(-2 * std::log(u)), angle = 6.283185307179586 * v;
  const double z = radius * (i % 2 ? std::sin(angle) : std::cos(angle));
  const double near_one = u > 0.999 ? 1e-3 : 0;  // log(u) then has few bits in either precision
  return {a.floats[0] + a.floats[1] * z, (8 * (1 + radius) + near_one / epsilon_of(dtype)) *
                                             epsilon_of(dtype) *
                                             (a.floats[1] + std::abs(a.floats[0]))};
}

static void check_random(DType dtype, const Attributes& a, int64_t step, const Shape& shape,
                         int layout) {
  Array out(dtype, shape, layout), counter(DType::i64, {});
  counter.as<int64_t>(0) = step;
  run(kRandom, {&out, &counter}, a);
  for (int64_t i = 0; i < out.size(); ++i) {
    const Drawn d = drawn(dtype, a, step, i);
    CHECK(std::abs(out.get(i) - d.value) <= d.tolerance);
  }
}

static void test_random() {
  const int64_t seed = static_cast<int64_t>(0xFEDCBA9876543210ull);
  for (int layout = 0; layout < kLayouts; ++layout) {
    for (Shape shape : {Shape{}, Shape{0}, Shape{1}, Shape{3}, Shape{255}, Shape{16, 16},
                        Shape{5, 7, 11}, Shape{40000}}) {
      for (DType dtype : {DType::f32, DType::f64}) {
        check_random(dtype, {{0, seed, 0}, {0, 1}}, 0, shape, layout);
        check_random(dtype, {{0, 7, 0xFFFFFFFF}, {-0.05, 0.05}}, 12345678901234, shape, layout);
        check_random(dtype, {{0, 7, 3}, {1, 1 + 1e-6}}, -1, shape, layout);
        check_random(dtype, {{1, seed, 5}, {0, 1}}, 9, shape, layout);
        check_random(dtype, {{1, 1, 5}, {-3, 0.5}}, 9, shape, layout);
      }
      for (DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::b8}) {
        for (double p : {0.0, 0x1p-33, 0.3, 0.5, 1 - 0x1p-33, 1.0})
          check_random(dtype, {{2, seed, 1}, {p}}, 2, shape, layout);
      }
    }
  }
  Array out(DType::f32, {1 << 20}), counter(DType::i64, {1});
  counter.set(0, 1);
  run(kRandom, {&out, &counter}, {{1, 42, 0}, {0, 1}});
  double sum[5] = {};
  for (int64_t i = 0; i < out.size(); ++i) {
    for (int k = 1; k < 5; ++k) sum[k] += std::pow(out.get(i), k) / out.size();
  }
  CHECK(std::abs(sum[1]) < 5e-3 && std::abs(sum[2] - 1) < 7e-3 && std::abs(sum[3]) < 2e-2 &&
        std::abs(sum[4] - 3) < 5e-2);
  Array whole(DType::i32, {4});
  CHECK(refuses(kRandom, {&whole, &counter}, {{0, 1, 0}, {0, 1}}) &&
        refuses(kRandom, {&out, &counter}, {{2, 1, 0}, {1.5}}));
  CHECK(refuses(kRandom, {&out, &counter}, {{0, 1, 0}, {1, 0}}) &&
        refuses(kRandom, {&out, &counter}, {{0, 1, 0}, {0, kNaN}}));
  CHECK(refuses(kRandom, {&out, &counter}, {{0, 1, -1}, {0, 1}}) &&
        refuses(kRandom, {&out, &out}, {{0, 1, 0}, {0, 1}}));
}

int main() {
  test_philox();
  test_random();
  test_gather();
  test_softmax();
  std::puts("ok");
}
