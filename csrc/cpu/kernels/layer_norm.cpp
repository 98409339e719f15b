// Normalization of rows x (N, D), in one pass over memory each way:
//
//   layer_norm       y = h gamma + beta,  h = (x - mean) inv,  inv = 1 / sqrt(variance + epsilon)
//   layer_norm_grad  dx = inv (g - mean(g) - h mean(g h)),  g = dy gamma
//                    dgamma = sum over rows of dy h,  dbeta = sum over rows of dy
//
// where mean = 0 and variance = mean(x^2), and dx lacks mean(g), if rows are not centered (RMS).
// Four rows at a time are as many chains of sums, and share the loads of gamma and the sums over
// rows; they stay in L1 between the loops that need them, and the last loop fetches the next ones:
// rows are too short for the machine to foresee them. A row is summed in the same order wherever it
// lies. dgamma and dbeta are sums over the rows of a part, which meet in a second phase in order.
// Large y and dx go past the caches: to read their old lines is a third of a forward's traffic.
#include "common/layer_norm.h"
#include "cpu/kernels/level.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int kRows = 4;  // at a time
constexpr int64_t kPartElements = 16 << 10;
constexpr int64_t kMostParts = 64;        // of the gradient: each has a row of partial sums
constexpr int64_t kColumns = 128;         // of a part of the second phase
constexpr int64_t kPastCaches = 8 << 20;  // bytes of a result that is mostly gone when it is read

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
struct LaneOf {
  typedef int32_t type;
};
template <>
struct LaneOf<double> {
  typedef int64_t type;
};

// v with 0 in the lanes from n on.
template <class T>
inline Vec<T> keep(Vec<T> v, int64_t n) {
  using I = typename LaneOf<T>::type;
  Vec<I> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return lane < broadcast<I>(I(n)) ? v : Vec<T>{};
}

// To L2; the address may lie beyond the array.
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

struct Rows {
  int64_t count, size, per_part, parts;
};

Rows make_rows(const Tensor& x, bool gradient) {
  Rows r{x.shape[0], x.shape[1], 1, 0};
  const int64_t size = r.size < 1 ? 1 : r.size;
  r.per_part = kPartElements / size < 1 ? 1 : kPartElements / size;
  const int64_t least = ceil_divide(r.count, kMostParts);
  if (gradient && r.per_part < least) r.per_part = least;
  r.per_part = ceil_divide(r.per_part, kRows) * kRows;
  r.parts = ceil_divide(r.count, r.per_part);
  return r;
}

// Whether the rows of `out` go past the caches: not over an input, whose lines are there already.
template <class T>
bool goes_past(const Rows& r, const T* out, const T* in, const T* other) {
  return r.count * r.size * int64_t(sizeof(T)) >= kPastCaches && r.size % kLanes<T> == 0 &&
         reinterpret_cast<uintptr_t>(out) % kVectorBytes == 0 && out != in && out != other;
}

template <class T>
inline void store_result(T* p, Vec<T> v, int64_t n, bool past) {
  past ? store_past_caches<T>(p, v) : store_some(p, v, n);
}

template <class T>
T inverse_root(T x) {
  return T(1) / __builtin_sqrt(x);
}
template <>
float inverse_root(float x) {
  return 1.0f / __builtin_sqrtf(x);
}

template <class T>
struct Forward {
  const Call& call;
  const Rows& r;
  bool centered;

  template <int R>
  void rows(int64_t i) const {
    const int64_t n_results = call.n_tensors - 3, D = r.size;
    const T *x = call.tensors[n_results].as<T>() + i * D,
            *gamma = call.tensors[n_results + 1].as<T>(),
            *beta = call.tensors[n_results + 2].as<T>();
    T *y = call.tensors[0].as<T>() + i * D, mean[R] = {}, inv[R];
    const bool past = goes_past(r, y, x, x);
    if (centered) {
      Vec<T> sum[R] = {};
      for_vectors<T>(D, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
        for (int k = 0; k < R; ++k) sum[k] += load_some(x + k * D + c, n);
      });
      for (int k = 0; k < R; ++k) mean[k] = sum_of<T>(sum[k]) / T(D);
    }
    Vec<T> rest[R] = {}, squares[R] = {};
    for_vectors<T>(D, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      for (int k = 0; k < R; ++k) {
        Vec<T> d = load_some(x + k * D + c, n) - mean[k];
        if (n < kLanes<T>) d = keep<T>(d, n);
        rest[k] += d;  // what rounding left in the mean
        squares[k] += d * d;
      }
    });
    for (int k = 0; k < R; ++k) {
      const T off = centered ? sum_of<T>(rest[k]) / T(D) : 0;
      inv[k] = inverse_root<T>(sum_of<T>(squares[k]) / T(D) - off * off + T(call.floats[0]));
      mean[k] += off;
      if (n_results > 1) call.tensors[1].as<T>()[i + k] = mean[k];
      if (n_results > 2) call.tensors[2].as<T>()[i + k] = inv[k];
    }
    for_vectors<T>(D, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      const Vec<T> g = load_some(gamma + c, n), b = load_some(beta + c, n);
      for (int k = 0; k < R; ++k) {
        prefetch(x + (R + k) * D + c);
        const Vec<T> h = (load_some(x + k * D + c, n) - mean[k]) * inv[k];
        store_result(y + k * D + c, h * g + b, n, past);
      }
    });
  }

  void run(int64_t begin, int64_t end) const {
    const int64_t last = smaller(end * r.per_part, r.count);
    int64_t i = begin * r.per_part;
    for (; i + kRows <= last; i += kRows) rows<kRows>(i);
    for (; i < last; ++i) rows<1>(i);
    fence();
  }
};

template <class T>
struct Backward {
  const Call& call;
  const Rows& r;
  bool centered;
  int results() const { return call.n_tensors - 5; }
  const T* input(int i) const { return call.tensors[results() + i].template as<T>(); }

  T* partial(int64_t part, int which) const {
    return reinterpret_cast<T*>(call.shared) + (part * 2 + which) * r.size;
  }

  // Adds to dgamma and dbeta, then makes dx from the rows' two sums.
  template <int R>
  void rows(int64_t i, T* dgamma, T* dbeta) const {
    const int64_t D = r.size;
    const T *dy = input(0) + i * D, *x = input(1) + i * D, *gamma = input(4);
    T *dx = call.tensors[0].as<T>() + i * D, mean[R], inv[R];
    const bool past = goes_past(r, dx, dy, x);
    for (int k = 0; k < R; ++k) mean[k] = input(2)[i + k], inv[k] = input(3)[i + k];
    Vec<T> of_g[R] = {}, of_gh[R] = {};
    for_vectors<T>(D, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      const Vec<T> factor = load_some(gamma + c, n);
      Vec<T> a = load_some(dgamma + c, n), b = load_some(dbeta + c, n);
      for (int k = 0; k < R; ++k) {
        const Vec<T> d = load_some(dy + k * D + c, n),
                     h = (load_some(x + k * D + c, n) - mean[k]) * inv[k], g = d * factor;
        a += d * h;
        b += d;
        of_g[k] += g;
        of_gh[k] += g * h;
      }
      store_some(dgamma + c, a, n), store_some(dbeta + c, b, n);
    });
    T slope[R], shift[R];  // dx = inv g - (x - mean) slope - shift
    for (int k = 0; k < R; ++k) {
      slope[k] = inv[k] * inv[k] * sum_of<T>(of_gh[k]) / T(D);
      shift[k] = centered ? inv[k] * sum_of<T>(of_g[k]) / T(D) : 0;
    }
    for_vectors<T>(D, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
      const Vec<T> factor = load_some(gamma + c, n);
      for (int k = 0; k < R; ++k) {
        prefetch(dy + (R + k) * D + c), prefetch(x + (R + k) * D + c);
        const Vec<T> h = (load_some(x + k * D + c, n) - mean[k]) * slope[k] + shift[k];
        const Vec<T> g = load_some(dy + k * D + c, n) * factor * inv[k];
        store_result(dx + k * D + c, g - h, n, past);
      }
    });
  }

  void first_phase(int64_t begin, int64_t end) const {
    for (int64_t part = begin; part < end; ++part) {
      T *dgamma = partial(part, 0), *dbeta = partial(part, 1);
      for (int64_t c = 0; c < 2 * r.size; ++c) dgamma[c] = 0;
      const int64_t last = smaller((part + 1) * r.per_part, r.count);
      int64_t i = part * r.per_part;
      for (; i + kRows <= last; i += kRows) rows<kRows>(i, dgamma, dbeta);
      for (; i < last; ++i) rows<1>(i, dgamma, dbeta);
    }
    fence();
  }

  void second_phase(int64_t begin, int64_t end) const {
    for (int64_t c = begin * kColumns; c < smaller(end * kColumns, r.size); c += kColumns)
      for (int which = 0; which + 1 < results(); ++which) {
        const int64_t n = smaller(kColumns, r.size - c);
        double sums[kColumns] = {};
        for (int64_t part = 0; part < r.parts; ++part)
          for (int64_t i = 0; i < n; ++i) sums[i] += double(partial(part, which)[c + i]);
        T* out = call.tensors[1 + which].template as<T>() + c;
        for (int64_t i = 0; i < n; ++i) out[i] = T(sums[i]);
      }
  }
};

}  // namespace

const char* plan_layer_norm(const Call& call, Work& work) {
  if (const char* wrong = check_layer_norm(call)) return wrong;
  const Rows r = make_rows(call.tensors[0], false);
  work.outputs = call.n_tensors - 3;
  work.parts[0] = r.parts;
  work.flops = 9.0 * r.count * r.size;
  work.bytes = 2.0 * r.count * r.size * size_of(call.tensors[0].dtype);
  return nullptr;
}

void run_layer_norm(const Call& call, int, int64_t begin, int64_t end, char*) {
  const Rows r = make_rows(call.tensors[0], false);
  if (call.tensors[0].dtype == DType::f32)
    Forward<float>{call, r, call.ints[0] != 0}.run(begin, end);
  else
    Forward<double>{call, r, call.ints[0] != 0}.run(begin, end);
}

const char* plan_layer_norm_grad(const Call& call, Work& work) {
  if (const char* wrong = check_layer_norm_grad(call)) return wrong;
  const Rows r = make_rows(call.tensors[0], true);
  const int64_t bytes = size_of(call.tensors[0].dtype);
  work.outputs = call.n_tensors - 5;
  work.phases = 2;
  work.parts[0] = r.parts, work.parts[1] = ceil_divide(r.size, kColumns);
  work.shared_bytes = r.parts * 2 * r.size * bytes;
  work.flops = 16.0 * r.count * r.size;
  work.bytes = 3.0 * r.count * r.size * bytes;
  return nullptr;
}

void run_layer_norm_grad(const Call& call, int phase, int64_t begin, int64_t end, char*) {
  const Rows r = make_rows(call.tensors[0], true);
  const bool centered = call.ints[0] != 0;
  if (call.tensors[0].dtype == DType::f32) {
    const Backward<float> b{call, r, centered};
    phase ? b.second_phase(begin, end) : b.first_phase(begin, end);
  } else {
    const Backward<double> b{call, r, centered};
    phase ? b.second_phase(begin, end) : b.first_phase(begin, end);
  }
}

}  // namespace dl::DL_LEVEL
