// gather and scatter_add against naive double loops: odd sizes, any strides, every dtype; one part
// against many, bit for bit.        csrc/tests/run.sh gather
#include <cstring>

#include "tests/kernel_runs.h"

static const Kernel kGather = DL_TESTED(gather), kScatterAdd = DL_TESTED(scatter_add);

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
    const double at = index[i];
    for (int64_t j = 0; j < row; ++j) {
      const double x = at >= 0 && at < v ? table[static_cast<int64_t>(at) * row + j] : 0;
      CHECK(out[i * row + j] == as_stored(to, x, from));
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
    const double at = index[i];
    if (at < 0 || at >= v) continue;
    for (int64_t j = 0; j < row; ++j)
      sums[static_cast<int64_t>(at) * row + j] += rows.as<T>(i * row + j);
  }
  for (int64_t i = 0; i < out.size(); ++i) CHECK(out.as<T>(i) == sums[i]);
  Array base(dtype, out_shape, layout);
  for (int64_t i = 0; i < out.size(); ++i) base.set(i, sums[i] = static_cast<T>(i % 7));
  for (int64_t i = 0; i < l; ++i) {
    const double at = index[i];
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

int main() {
  test_gather();
  std::puts("ok");
}
