// Rows over the last axis, C classes, m = max(x), s = sum(exp(x - m)):
//
//   softmax                y = exp(x - m) / s       dx = y (dy - sum(dy y))
//   log_softmax            y = x - m - log(s)       dx = dy - exp(y) sum(dy)
//   softmax_cross_entropy  loss = sum(t) log(s) - sum(t (x - m))
//                          delta = dloss/dx = sum(t) exp(x - m) / s - t
//
// where t is labels (N, C), or one-hot of integer labels (N); a label out of range gives NaN.
//
// A few rows at a time are packed into the thread's scratch, padded to whole vectors with what does
// not count (-inf where exp is taken, 0 else): any strides, odd C and C below the lane count are
// then one text without masks, everything between reading x and writing y happens in L1, and the
// logarithms of a group share a vector. The steps of a group are loops over its rows of their own:
// the maximum, the exponentials and the sum of one row wait for each other, those of eight do not.
//
// -inf logits get probability 0; a row with NaN, inf or nothing but -inf is NaN, as the formula is.
#include <utility>

#include "common/softmax.h"
#include "cpu/kernels/level.h"
#include "cpu/math.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kGroupElements = 2048;      // of scratch: with x and y in L1
constexpr int64_t kPartElements = 16 * 1024;  // 5 to 10 us of work
template <class T>
constexpr T kInf = static_cast<T>(__builtin_inf());
template <class T>
constexpr T kNaN = static_cast<T>(__builtin_nan(""));

// The rows of a call: C classes, padded to whole vectors and at least one; `group` rows are packed
// at a time.
struct Rows {
  int64_t count, classes, padded, group, per_part;
};

Rows make_rows(const Tensor& t) {
  const int64_t lanes = kVectorBytes / size_of(t.dtype);
  Rows r;
  r.count = count(t, 0, t.rank - 1);
  r.classes = t.shape[t.rank - 1];
  r.padded = r.classes ? (r.classes + lanes - 1) / lanes * lanes : lanes;
  r.group = kGroupElements / r.padded;
  r.group = r.group < 1 ? 1 : r.group > lanes ? lanes : r.group;
  const int64_t groups = kPartElements / (r.padded * r.group);
  r.per_part = (groups ? groups : 1) * r.group;
  return r;
}

// A tensor's rows, over any leading axes.
template <class T>
struct RowsOf {
  explicit RowsOf(const Tensor& tensor) : t(tensor), stride(tensor.stride[tensor.rank - 1]) {}
  T* operator[](int64_t i) const {
    return t.template as<T>() + (t.rank == 2 ? i * t.stride[0] : offset(t, 0, t.rank - 1, i));
  }
  const Tensor& t;
  int64_t stride;
};

template <class T>
inline Vec<T> larger(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

// One row into the scratch, in whole vectors.
template <class T, class S>
inline void pack(const S* from, int64_t stride, const Rows& r, T padding, T* to) {
  constexpr int n = kLanes<T>;
  const int64_t whole = r.classes / n * n;
  if (whole < r.padded) store<T>(to + whole, broadcast<T>(padding));
  if (sizeof(S) != sizeof(T) || stride != 1) {
    for (int64_t c = 0; c < r.classes; ++c) to[c] = static_cast<T>(from[c * stride]);
    return;
  }
  const T* x = reinterpret_cast<const T*>(from);
  for (int64_t c = 0; c < whole; c += n) store<T>(to + c, load(x + c));
  copy_few(to + whole, x + whole, r.classes - whole);
}

// The maximum of a packed row. NaN does not count: it shows in the sum.
template <class T>
inline T top_of(const T* row, const Rows& r) {
  constexpr int n = kLanes<T>;
  Vec<T> top[2] = {load(row), load(row)};  // two chains: a maximum waits for the one before
  int64_t c = n;
  for (; c + n < r.padded; c += 2 * n) {
    top[0] = larger<T>(load(row + c), top[0]);
    top[1] = larger<T>(load(row + c + n), top[1]);
  }
  if (c < r.padded) top[0] = larger<T>(load(row + c), top[0]);
  return fold<T>(larger<T>(top[0], top[1]), larger<T>);
}

// Writes a row of any stride; f(c) makes the classes from c on.
template <class T, class F>
inline void unpack(T* to, int64_t stride, const Rows& r, F&& f) {
  constexpr int n = kLanes<T>;
  const int64_t whole = stride == 1 ? r.classes / n * n : 0;
  for (int64_t c = 0; c < whole; c += n) store<T>(to + c, f(c));
  for (int64_t c = whole; c < r.classes; c += n) {
    T part[n];
    store<T>(part, f(c));
    if (stride == 1) {
      copy_few(to + c, part, r.classes - c);
    } else {
      for (int64_t i = 0; i < n && c + i < r.classes; ++i) to[(c + i) * stride] = part[i];
    }
  }
}

template <class T>
void softmax_rows(const Call& call, const Rows& r, int64_t begin, int64_t end, T* scratch) {
  constexpr int n = kLanes<T>;
  const RowsOf<T> y(call.tensors[0]), x(call.tensors[1]);
  const bool log_of = call.ints[0] != 0;
  for (int64_t first = begin; first < end; first += r.group) {
    const int64_t rows = end - first < r.group ? end - first : r.group;
    T top[n], sum[n] = {};
    for (int64_t j = 0; j < rows; ++j)
      pack<T>(x[first + j], x.stride, r, -kInf<T>, scratch + j * r.padded);
    for (int64_t j = 0; j < rows; ++j) top[j] = top_of<T>(scratch + j * r.padded, r);
    for (int64_t j = 0; j < rows; ++j) {
      T* e = scratch + j * r.padded;
      const T m = top[j];
      Vec<T> s{};
      for (int64_t c = 0; c < r.padded; c += n) {
        const Vec<T> z = load(e + c) - m, p = exp_nonpositive<T>(z);
        store<T>(e + c, log_of ? z : p);
        s += p;
      }
      sum[j] = sum_of<T>(s);
    }
    const Vec<T> scale = log_of ? log<T>(load(sum)) : 1 / load(sum);
    for (int64_t j = 0; j < rows; ++j) {
      const T* e = scratch + j * r.padded;
      const T a = scale[j];
      if (log_of)
        unpack<T>(y[first + j], y.stride, r, [=](int64_t c) { return load(e + c) - a; });
      else
        unpack<T>(y[first + j], y.stride, r, [=](int64_t c) { return load(e + c) * a; });
    }
  }
}

template <class T>
void softmax_grad_rows(const Call& call, const Rows& r, int64_t begin, int64_t end, T* scratch) {
  constexpr int n = kLanes<T>;
  const RowsOf<T> dx(call.tensors[0]), dy(call.tensors[1]), y(call.tensors[2]);
  const bool log_of = call.ints[0] != 0;
  for (int64_t first = begin; first < end; first += r.group) {
    const int64_t rows = end - first < r.group ? end - first : r.group;
    T sum[n];
    for (int64_t j = 0; j < rows; ++j) {
      T *p = scratch + 2 * j * r.padded, *g = p + r.padded;
      pack<T>(y[first + j], y.stride, r, T(0), p);
      pack<T>(dy[first + j], dy.stride, r, T(0), g);
    }
    for (int64_t j = 0; j < rows; ++j) {
      const T *p = scratch + 2 * j * r.padded, *g = p + r.padded;
      Vec<T> s{};
      for (int64_t c = 0; c < r.padded; c += n)
        s += log_of ? load(g + c) : load(g + c) * load(p + c);
      sum[j] = sum_of<T>(s);
    }
    for (int64_t j = 0; j < rows; ++j) {
      const T *p = scratch + 2 * j * r.padded, *g = p + r.padded;
      const T s = sum[j];
      if (log_of)
        unpack<T>(dx[first + j], dx.stride, r,
                  [=](int64_t c) { return load(g + c) - exp_nonpositive<T>(load(p + c)) * s; });
      else
        unpack<T>(dx[first + j], dx.stride, r,
                  [=](int64_t c) { return load(p + c) * (load(g + c) - s); });
    }
  }
}

int64_t label_at(const Tensor& labels, int64_t i) {
  const int64_t at = i * labels.stride[0];
  if (labels.dtype == DType::i32) return labels.as<int32_t>()[at];
  if (labels.dtype == DType::i64) return labels.as<int64_t>()[at];
  return labels.as<uint8_t>()[at];
}

template <class T>
struct Sums {
  T exp, target, product;  // sum(exp(z)), sum(t), sum(t z), z = x - m
};

// exp(z) replaces z in e; the label's gets its - s here, so that delta is one product.
template <class T>
inline Sums<T> sum_sparse(T* e, T m, const Rows& r, int64_t label) {
  Vec<T> s{};
  if (label < 0 || label >= r.classes) return {kNaN<T>, 1, 0};
  const T z = e[label] - m;
  for (int64_t c = 0; c < r.padded; c += kLanes<T>) {
    const Vec<T> p = exp_nonpositive<T>(load(e + c) - m);
    store<T>(e + c, p);
    s += p;
  }
  const T sum = sum_of<T>(s);
  e[label] -= sum;
  return {sum, 1, z};
}

template <class T>
inline Sums<T> sum_dense(T* e, T m, const Rows& r, const T* t) {
  Vec<T> s{}, target{}, product{};
  for (int64_t c = 0; c < r.padded; c += kLanes<T>) {
    const Vec<T> z = load(e + c) - m, p = exp_nonpositive<T>(z), w = load(t + c);
    store<T>(e + c, p);
    s += p;
    target += w;
    product += w == 0 ? Vec<T>{} : w * z;  // a masked class: 0 times -inf
  }
  return {sum_of<T>(s), sum_of<T>(target), sum_of<T>(product)};
}

template <class T>
void cross_entropy_rows(const Call& call, const Rows& r, int64_t begin, int64_t end, T* scratch) {
  constexpr int n = kLanes<T>;
  const Tensor &loss = call.tensors[0], &labels = call.tensors[3];
  const RowsOf<T> delta(call.tensors[1]), x(call.tensors[2]);
  const bool dense = labels.rank == 2;
  for (int64_t first = begin; first < end; first += r.group) {
    const int64_t rows = end - first < r.group ? end - first : r.group;
    T top[n], exps[n] = {}, targets[n] = {}, products[n] = {};
    for (int64_t j = 0; j < rows; ++j) {
      T *e = scratch + 2 * j * r.padded, *t = e + r.padded;
      pack<T>(x[first + j], x.stride, r, -kInf<T>, e);
      if (dense && labels.dtype == DType::f32)
        pack<T>(RowsOf<float>(labels)[first + j], labels.stride[1], r, T(0), t);
      else if (dense)
        pack<T>(RowsOf<double>(labels)[first + j], labels.stride[1], r, T(0), t);
    }
    for (int64_t j = 0; j < rows; ++j) top[j] = top_of<T>(scratch + 2 * j * r.padded, r);
    for (int64_t j = 0; j < rows; ++j) {
      T *e = scratch + 2 * j * r.padded, *t = e + r.padded;
      const Sums<T> s = dense ? sum_dense<T>(e, top[j], r, t)
                              : sum_sparse<T>(e, top[j], r, label_at(labels, first + j));
      exps[j] = s.exp, targets[j] = s.target, products[j] = s.product;
    }
    const Vec<T> losses = load(targets) * log<T>(load(exps)) - load(products),
                 scales = load(targets) / load(exps);
    for (int64_t j = 0; j < rows; ++j) {
      const T *e = scratch + 2 * j * r.padded, *t = e + r.padded;
      const T scale = scales[j];
      loss.as<T>()[(first + j) * loss.stride[0]] = losses[j];
      T* to = delta[first + j];
      if (dense)
        unpack<T>(to, delta.stride, r,
                  [=](int64_t c) { return load(e + c) * scale - load(t + c); });
      else
        unpack<T>(to, delta.stride, r, [=](int64_t c) { return load(e + c) * scale; });
    }
  }
}

// Work of a call on the rows of `t`: `packed` of its tensors have scratch, an element costs `exps`
// exponentials, memory is passed over `passes` times.
void plan_rows(const Tensor& t, int packed, double exps, int passes, Work& work) {
  const Rows r = make_rows(t);
  const double elements = static_cast<double>(r.count) * r.classes;
  work.parts[0] = r.count <= r.per_part ? 1 : (r.count + r.per_part - 1) / r.per_part;
  work.scratch_bytes = packed * r.group * r.padded * size_of(t.dtype);
  work.flops = elements * (20 * exps + 5) + 20.0 * r.count;
  work.bytes = elements * passes * size_of(t.dtype);
}

// f(rows, first, last, scratch as elements of `t`) for the rows of the parts [begin, end).
template <class F>
void run_rows(const Tensor& t, int64_t begin, int64_t end, char* scratch, F&& f) {
  const Rows r = make_rows(t);
  const int64_t first = begin * r.per_part,
                last = end * r.per_part < r.count ? end * r.per_part : r.count;
  if (t.dtype == DType::f32)
    f(r, first, last, reinterpret_cast<float*>(scratch));
  else
    f(r, first, last, reinterpret_cast<double*>(scratch));
}

}  // namespace

const char* plan_softmax(const Call& call, Work& work) {
  if (const char* wrong = check_softmax(call)) return wrong;
  plan_rows(call.tensors[1], 1, 1, 2, work);
  return nullptr;
}

void run_softmax(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  run_rows(call.tensors[1], begin, end, scratch,
           [&](const Rows& r, int64_t first, int64_t last, auto* s) {
             softmax_rows(call, r, first, last, s);
           });
}

const char* plan_softmax_grad(const Call& call, Work& work) {
  if (const char* wrong = check_softmax_grad(call)) return wrong;
  plan_rows(call.tensors[2], 2, call.ints[0] ? 1 : 0, 3, work);
  return nullptr;
}

void run_softmax_grad(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  run_rows(call.tensors[2], begin, end, scratch,
           [&](const Rows& r, int64_t first, int64_t last, auto* s) {
             softmax_grad_rows(call, r, first, last, s);
           });
}

const char* plan_softmax_cross_entropy(const Call& call, Work& work) {
  if (const char* wrong = check_softmax_cross_entropy(call)) return wrong;
  work.outputs = 2;
  plan_rows(call.tensors[2], 2, 1, call.tensors[3].rank == 2 ? 3 : 2, work);
  return nullptr;
}

void run_softmax_cross_entropy(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  run_rows(call.tensors[2], begin, end, scratch,
           [&](const Rows& r, int64_t first, int64_t last, auto* s) {
             cross_entropy_rows(call, r, first, last, s);
           });
}

}  // namespace dl::DL_LEVEL
