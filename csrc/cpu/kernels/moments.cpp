// Sums over the rows of x (B, R, C), one pass:
//
//   moments        mean, variance (B, G) over the R rows and the C / G channels of each group
//   centered_sums  s1 = sum over rows of dy, s2 = sum over rows of dy (x - mean)      all (B, C)
//
// which are all that batch, group and instance normalization and their gradients need. Both are
// s1 += a, s2 += a (x - center): a is x - center for moments, dy else.
//
// A part is a chunk of rows. The center of moments is the mean of the first sixteenth p of the
// chunk; (mean - center)^2 <= variance (1 - p) / p then bounds what s2 - s1^2 / n cancels, however
// far the mean lies from 0. Chunks meet in the second phase, in their order, in double:
// Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983, equation 2.1.
// Narrow rows are taken `fold` at once, as one wide row.
#include "cpu/kernels/level.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kChunkElements = 32 << 10;
constexpr int64_t kWide = 64;             // columns that fill the registers of a pass
constexpr int64_t kMostColumns = 1024;    // of a part
constexpr int64_t kBlockElements = 4096;  // stay in L1 while all columns pass over them
constexpr int64_t kMeet = 64;             // channels of a part of the second phase
constexpr int64_t kCenterShare = 16;

struct Plan {
  int64_t batch, rows, channels, group;  // group: channels of one
  int64_t fold, columns, column_blocks, chunk, chunks;
  int64_t units, per_part, parts;
  int64_t meet, meets;  // second phase: channels of a part, parts of one batch entry
};

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

bool is_row_major(const Tensor& t) { return is_dense(t, 0, t.rank); }

Plan make_plan(const Tensor& x, int64_t groups) {
  Plan p;
  p.batch = x.shape[0], p.rows = x.shape[1], p.channels = x.shape[2];
  const int64_t c = larger(p.channels, 1);
  p.group = c / groups;
  p.fold = smaller(larger(kWide / c, 1), larger(p.rows, 1));
  p.columns = smaller(c, kMostColumns);
  p.column_blocks = ceil_divide(p.channels, p.columns);
  p.chunk = larger(kChunkElements / (p.columns * p.fold), 1) * p.fold;
  p.chunks = larger(ceil_divide(p.rows, p.chunk), 1);
  p.units = p.batch * p.chunks * p.column_blocks;
  const int64_t elements = larger(smaller(p.chunk, p.rows) * p.columns, 1);
  p.per_part = larger(kChunkElements / 2 / elements, 1);
  p.parts = ceil_divide(p.units, p.per_part);
  p.meet = larger(kMeet / p.group, 1) * p.group;
  p.meets = ceil_divide(p.channels, p.meet);
  return p;
}

const char* check(const Call& call, bool moments, Plan& p) {
  if (call.n_tensors != (moments ? 3 : 5)) return "moments: expected two results and their inputs";
  const Tensor *t = call.tensors, &x = t[moments ? 2 : 3];
  for (int i = 0; i < call.n_tensors; ++i)
    if (t[i].dtype != x.dtype || !is_float(x.dtype) || !is_row_major(t[i]))
      return "moments: expected row-major arrays, all float32 or all float64";
  if (x.rank != 3) return "moments: expected x (batch, rows, channels)";
  const int64_t groups = moments && call.n_ints == 1 ? call.ints[0] : larger(x.shape[2], 1);
  if ((moments && call.n_ints != 1) || groups < 1 || x.shape[2] % groups)
    return "moments: expected groups that divide the channels";
  for (int i = 0; i < call.n_tensors; ++i) {
    if (i == 2 || (i == 3 && !moments)) continue;
    if (t[i].rank != 2 || t[i].shape[0] != x.shape[0] ||
        t[i].shape[1] != (moments ? groups : x.shape[2]))
      return "moments: expected (batch, groups or channels) beside x";
  }
  if (!moments && !same_shape(t[2], 0, x, 0)) return "moments: expected dy and x of one shape";
  p = make_plan(x, groups);
  return nullptr;
}

// s1 and s2 of n * kLanes columns (or `tail` of the last) over some rows of `stride` elements.
template <class T, bool moments, int n>
inline void add_columns(const T* dy, const T* x, int64_t rows, int64_t stride, const T* center,
                        T* s1, T* s2, int64_t tail) {
  constexpr int64_t L = kLanes<T>;
  const auto at = [=](const T* q, int i) {
    return n == 1 && tail ? load_part<T>(q, tail) : load<T>(q + i * L);
  };
  Vec<T> m[n], a[n] = {}, b[n] = {};  // sums of a block of their own round less than one long chain
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) m[i] = at(center, i);
  for (int64_t r = 0; r < rows; ++r, x += stride, dy += moments ? 0 : stride) {
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) {
      const Vec<T> d = at(x, i) - m[i], g = moments ? d : at(dy, i);
      a[i] += g;
      b[i] += g * d;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < n; ++i) {
    a[i] += at(s1, i), b[i] += at(s2, i);
    if (n == 1 && tail)
      store_part<T>(s1, a[i], tail), store_part<T>(s2, b[i], tail);
    else
      store<T>(s1 + i * L, a[i]), store<T>(s2 + i * L, b[i]);
  }
}

template <class T, bool moments>
void add_rows(const T* dy, const T* x, int64_t rows, int64_t cols, int64_t stride, const T* center,
              T* s1, T* s2) {
  constexpr int64_t L = kLanes<T>;
  const int64_t block = larger(kBlockElements / cols, 8);
  for (int64_t r = 0; r < rows; r += block) {
    const int64_t n = smaller(block, rows - r);
    const T *px = x + r * stride, *pdy = moments ? px : dy + r * stride;
    int64_t c = 0;
    for (; c + 4 * L <= cols; c += 4 * L)
      add_columns<T, moments, 4>(pdy + c, px + c, n, stride, center + c, s1 + c, s2 + c, 0);
    for (; c + L <= cols; c += L)
      add_columns<T, moments, 1>(pdy + c, px + c, n, stride, center + c, s1 + c, s2 + c, 0);
    if (c < cols)
      add_columns<T, moments, 1>(pdy + c, px + c, n, stride, center + c, s1 + c, s2 + c, cols - c);
  }
}

template <class T>
void fill(T* p, int64_t n, T x) {
  for (int64_t i = 0; i < n; ++i) p[i] = x;
}

// Results of a chunk so far, per channel: (count, mean, M2), or s1 and s2.
struct Partial {
  double count, *first, *second;
};

// More values, n of them for each channel: their means and sums of squared distances from these.
inline void meet(Partial& p, double n, const double* mean, const double* m2, int64_t channels) {
  const double share = n / (p.count + n), weight = p.count * share;
  double* __restrict first = p.first, * __restrict second = p.second;
  for (int64_t c = 0; c < channels; ++c) {
    const double delta = mean[c] - first[c];
    first[c] += delta * share;
    second[c] += m2[c] + delta * delta * weight;
  }
  p.count += n;
}

inline void add(Partial& p, const double* s1, const double* s2, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c) p.first[c] += s1[c], p.second[c] += s2[c];
}

template <class T, bool moments>
struct Runner {
  const Call& call;
  const Plan& p;
  T *center, *s1, *s2;  // of the columns of a wide row
  double *one, *two;    // of the channels of one row in it

  static int64_t width(const Plan& p) { return p.columns * p.fold; }
  static int64_t scratch_bytes(const Plan& p) {
    const int64_t first = width(p) * (3 * int64_t(sizeof(T)) + 16);
    return larger(first, p.meet * 16);
  }

  Runner(const Call& c, const Plan& plan, char* scratch) : call(c), p(plan) {
    one = reinterpret_cast<double*>(scratch), two = one + width(p);
    center = reinterpret_cast<T*>(two + width(p));
    s1 = center + width(p), s2 = s1 + width(p);
  }

  const T* x() const { return call.tensors[moments ? 2 : 3].template as<T>(); }
  const T* dy() const { return call.tensors[2].template as<T>(); }
  const T* mean() const { return call.tensors[4].template as<T>(); }

  double* shared(int64_t b, int64_t chunk, int64_t which) const {
    return reinterpret_cast<double*>(call.shared) +
           ((b * p.chunks + chunk) * 2 + which) * p.channels;
  }

  // `rows` wide rows of `fold` rows each, from element `at` on.
  void take(int64_t at, int64_t b, int64_t c, int64_t rows, int64_t fold, int64_t channels,
            Partial& partial) const {
    const int64_t cols = channels * fold, stride = p.channels * fold;
    const T *px = x() + at, *pdy = moments ? px : dy() + at;
    const int64_t few = ceil_divide(rows, kCenterShare);
    if (moments) {
      fill<T>(center, cols, 0), fill<T>(s1, cols, 0), fill<T>(s2, cols, 0);
      add_rows<T, moments>(pdy, px, few, cols, stride, center, s1, s2);
      for (int64_t i = 0; i < cols; ++i) center[i] = s1[i] / T(few);
    } else {
      for (int64_t i = 0; i < cols; ++i) center[i] = mean()[b * p.channels + c + i % channels];
    }
    fill<T>(s1, cols, 0), fill<T>(s2, cols, 0);
    add_rows<T, moments>(pdy, px, rows, cols, stride, center, s1, s2);
    for (int64_t i = 0; i < cols; ++i) {
      const double a = s1[i], square = s2[i];
      one[i] = moments ? center[i] + a / rows : a;
      two[i] = moments ? larger_of(square - a * a / rows) : square;
    }
    for (int64_t i = 0; i < cols; i += channels)
      if (moments)
        meet(partial, double(rows), one + i, two + i, channels);
      else
        add(partial, one + i, two + i, channels);
  }

  static double larger_of(double m2) { return m2 < 0 ? 0 : m2; }  // NaN passes on

  void first_phase(int64_t begin, int64_t end) const {
    for (int64_t u = begin * p.per_part; u < smaller(end * p.per_part, p.units); ++u) {
      const int64_t c = u % p.column_blocks * p.columns, chunk = u / p.column_blocks % p.chunks,
                    b = u / p.column_blocks / p.chunks;
      const int64_t channels = smaller(p.columns, p.channels - c), row = chunk * p.chunk,
                    rows = smaller(p.chunk, p.rows - row), wide = rows / p.fold;
      Partial partial{0, shared(b, chunk, 0) + c, shared(b, chunk, 1) + c};
      fill<double>(partial.first, channels, 0), fill<double>(partial.second, channels, 0);
      const int64_t at = (b * p.rows + row) * p.channels + c, left = rows - wide * p.fold;
      if (wide) take(at, b, c, wide, p.fold, channels, partial);
      if (left) take(at + wide * p.fold * p.channels, b, c, 1, left, channels, partial);
    }
  }

  void store(int64_t at, double a, double b) const {
    call.tensors[0].template as<T>()[at] = T(a), call.tensors[1].template as<T>()[at] = T(b);
  }

  // Channels of equal counts become one group.
  void store_group(int64_t at, const Partial& sum, int64_t c) const {
    double mean = 0, m2 = 0;
    for (int64_t i = c; i < c + p.group; ++i) mean += sum.first[i];
    mean /= double(p.group);
    for (int64_t i = c; i < c + p.group; ++i) {
      const double delta = sum.first[i] - mean;
      m2 += sum.second[i] + delta * delta * double(p.rows);
    }
    store(at, mean, m2 / (double(p.rows) * double(p.group)));
  }

  void second_phase(int64_t begin, int64_t end, char* scratch) const {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t b = part / p.meets, c = part % p.meets * p.meet,
                    n = smaller(p.meet, p.channels - c);
      double* results = reinterpret_cast<double*>(scratch);
      Partial sum{0, results, results + p.meet};
      fill<double>(sum.first, n, 0), fill<double>(sum.second, n, 0);
      for (int64_t k = 0; k < p.chunks; ++k) {
        const double rows = double(smaller(p.chunk, p.rows - k * p.chunk));
        if (moments)
          meet(sum, rows, shared(b, k, 0) + c, shared(b, k, 1) + c, n);
        else
          add(sum, shared(b, k, 0) + c, shared(b, k, 1) + c, n);
      }
      if (moments)
        for (int64_t i = 0; i < n; i += p.group)
          store_group((b * p.channels + c + i) / p.group, sum, i);
      else
        for (int64_t i = 0; i < n; ++i) store(b * p.channels + c + i, sum.first[i], sum.second[i]);
    }
  }
};

template <bool moments>
const char* plan(const Call& call, Work& work) {
  Plan p;
  if (const char* wrong = check(call, moments, p)) return wrong;
  const Tensor& x = call.tensors[moments ? 2 : 3];
  const double elements = double(p.batch) * p.rows * p.channels;
  work.outputs = 2;
  work.phases = 2;
  work.parts[0] = p.parts, work.parts[1] = p.batch * p.meets;
  work.shared_bytes = p.batch * p.chunks * 2 * p.channels * 8;
  work.scratch_bytes = x.dtype == DType::f32 ? Runner<float, moments>::scratch_bytes(p)
                                             : Runner<double, moments>::scratch_bytes(p);
  work.flops = 4 * elements;
  work.bytes = elements * (moments ? 1 : 2) * size_of(x.dtype);
  return nullptr;
}

template <bool moments>
void run(const Call& call, int phase, int64_t begin, int64_t end, char* scratch) {
  Plan p;
  check(call, moments, p);
  if (call.tensors[0].dtype == DType::f32) {
    const Runner<float, moments> runner(call, p, scratch);
    phase ? runner.second_phase(begin, end, scratch) : runner.first_phase(begin, end);
  } else {
    const Runner<double, moments> runner(call, p, scratch);
    phase ? runner.second_phase(begin, end, scratch) : runner.first_phase(begin, end);
  }
}

}  // namespace

const char* plan_moments(const Call& call, Work& work) { return plan<true>(call, work); }

void run_moments(const Call& call, int phase, int64_t begin, int64_t end, char* scratch) {
  run<true>(call, phase, begin, end, scratch);
}

const char* plan_centered_sums(const Call& call, Work& work) { return plan<false>(call, work); }

void run_centered_sums(const Call& call, int phase, int64_t begin, int64_t end, char* scratch) {
  run<false>(call, phase, begin, end, scratch);
}

}  // namespace dl::DL_LEVEL
