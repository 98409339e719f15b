// gemm against a naive chain over k, bit for bit: layouts, batches, sizes around the vector, parts,
// copies.        csrc/tests/run.sh gemm
#include <vector>

#include "cpu/kernels/expression.h"
#include "cpu/kernels/gemm_plan.h"
#include "cpu/kernels/gemm_tile.h"
#include "tests/products.h"

namespace {

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
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{128, 784},
                             {10, 128},
                             {1, 64},
                             {512, 512},
                             {1030, 70},
                             {1040, 1010}}) {
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
  run_gemm(call_of(tensors, p), 0, 0, work.parts[0] / 2, aligned);
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

// One row against a large B goes over whole rows of B, with the sums of the tiles.
template <class T>
void test_streams() {
  constexpr int64_t L = kLanes<T>, n = 24 * L;
  Array<T> a({1, kStreamRows}, rows), b({kStreamRows, n}, rows), c({1, n}, rows), d({1, n}, rows);
  for (const bool accumulate : {false, true}) {
    Tile<T> t{};
    t.a = a.buffer.get(), t.a_row = kStreamRows, t.a_col = 1;
    t.b[0] = b.buffer.get(), t.b_row[0] = n, t.k[0] = kStreamRows;
    t.c = c.buffer.get(), t.c_row = n;
    t.accumulate = accumulate;
    stream_row(t, n);
    for (int64_t j = 0; j < n; j += 8 * L) {
      t.b[0] = b.buffer.get() + j, t.c = d.buffer.get() + j;
      find_tile<T>(8, 1)(t);
    }
    for (int64_t j = 0; j < n; ++j) CHECK(same_bits(c.buffer[j], d.buffer[j]));
  }
  const int64_t large = 1040;
  for (const int64_t m : {1, 2}) {
    Array<T> x({m, large}, rows), y({large, large}, rows), z({m, large}, rows);
    const std::vector<Tensor> tensors{z.tensor(), x.tensor(), y.tensor()};
    Product p{};
    read_gemm(call_of(tensors, {}), p);
    CHECK(p.streams == (m == 1));
  }
}

void test_refusals() {
  Array<float> a({4, 5}, rows), b({5, 6}, rows), c({4, 6}, rows), d({4, 5}, rows);
  Array<double> e({5, 6}, rows);
  auto refused = [](const std::vector<Tensor>& t, const Program& p) {
    Work work;
    return plan_gemm(call_of(t, p), work) != nullptr;
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
  test_halves_of_updates<T>();
  test_parts_by_bytes<T>();
  test_packing_tiles<T>();
  test_streams<T>();
}

}  // namespace

int main() {
  test_all<float>();
  test_all<double>();
  test_refusals();
  std::puts("gemm: all cases agree");
}
