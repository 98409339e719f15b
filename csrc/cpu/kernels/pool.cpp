// Pooling of channels-last arrays with 1 to 3 spatial axes. Window p covers the elements
// h = p stride + r - before of each axis, 0 <= r < size, that lie inside; tap is r in row-major
// order.
//
//   pool       max      y[p] = max over taps of x[h]; index[p] = tap of the first largest (or NaN)
//              average  y[p] = mean over the taps inside of x[h]
//              sum      y[p] = sum over the taps inside of x[h]
//   pool_grad  dx[h] = sum over the windows that cover h of dy[p], where index[p] is the tap (max);
//              dy[p] / number of taps inside (average); dy[p] (sum, which is nearest up-sampling)
//
// A window is a list of taps, offsets from its first element, that a row of windows shares; only
// windows across the border need lists of their own. Channels are the vectors. The gradient walks
// windows too: it zeroes planes just before the first window that reaches them, then adds, or
// stores where windows do not overlap. Parts are planes of windows, or images where gradients
// overlap.
#include "common/pool.h"
#include "cpu/kernels/level.h"
#include "cpu/rows.h"

namespace dl::DL_LEVEL {

namespace {

constexpr int64_t kPartElements = 16 << 10;
constexpr int64_t kChannelBlock = 64;  // channels of a part where windows overlap
constexpr int64_t kRun = 2048;  // taps of an index that are widened or narrowed at a time, in L1

// Two spatial axes are planes of one row each, one axis is one row; `image` has strides of a pixel.
struct Image {
  int64_t batch, axis[3];
};

struct Pool : PoolWindows {
  Image x, y, index;
  bool apart;             // windows share no element
  bool tiled[3];          // windows cover the axis without a gap
  int64_t block, blocks;  // of channels
  int64_t units, per_part, parts;
};

constexpr int kPlace[4][3] = {{}, {2, 0, 0}, {0, 2, 0}, {0, 1, 2}};  // of spatial axes in Image

Image image(const Tensor& t, int d) {
  Image m{t.stride[0], {0, 0, 0}};
  for (int i = 0; i < d; ++i) m.axis[kPlace[d][i]] = t.stride[1 + i];
  return m;
}

const char* make(const Call& call, bool gradient, Pool& p) {
  if (const char* wrong = read_pool(call, gradient, kPlace, p)) return wrong;
  const auto [x, y, index] = pool_operands(call, gradient);
  p.apart = true;
  for (int a = 0; a < 3; ++a) {
    p.apart &= p.stride[a] >= p.size[a];
    p.tiled[a] = !p.before[a] && p.stride[a] == p.size[a] && p.out[a] * p.size[a] == p.in[a];
  }
  const int d = x.rank - 2;
  p.x = image(x, d), p.y = image(y, d);
  if (index) p.index = image(*index, d);
  const bool whole = gradient && !p.apart;
  p.block = whole && p.channels > kChannelBlock ? kChannelBlock : p.channels;
  p.blocks = p.block ? (p.channels + p.block - 1) / p.block : 0;
  p.units = p.batch * (whole ? p.blocks : p.out[0]);
  if (p.channels == 0) p.units = 0;
  const int64_t planes = whole ? p.in[0] : p.stride[0];
  const double elements = double(planes) * p.in[1] * p.in[2] * (p.block ? p.block : 1);
  p.per_part = elements < kPartElements ? int64_t(kPartElements / elements) : 1;
  p.parts = (p.units + p.per_part - 1) / p.per_part;
  return nullptr;
}

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Taps of window `at` along an axis that lie inside.
inline Range inside(const Pool& p, int axis, int64_t at) {
  const int64_t first = at * p.stride[axis] - p.before[axis], left = p.in[axis] - first;
  return {first < 0 ? -first : 0, left < p.size[axis] ? left : p.size[axis]};
}

struct Taps {
  int64_t n;
  int64_t* offset;  // from the window's first element, which may lie outside
  int32_t* tap;
};

void list(const Pool& p, const Range* r, Taps& taps) {
  taps.n = 0;
  for (int64_t a = r[0].begin; a < r[0].end; ++a)
    for (int64_t b = r[1].begin; b < r[1].end; ++b)
      for (int64_t w = r[2].begin; w < r[2].end; ++w) {
        taps.offset[taps.n] = a * p.x.axis[0] + b * p.x.axis[1] + w * p.x.axis[2];
        taps.tap[taps.n++] = int32_t((a * p.size[1] + b) * p.size[2] + w);
      }
}

template <class T>
struct IntOf {
  typedef int32_t type;
};
template <>
struct IntOf<double> {
  typedef int64_t type;
};
template <class T>
using Int = typename IntOf<T>::type;  // as wide as T: lanes of masks and taps

// Taps lie one per byte in memory, and as wide as T in a short run of scratch that the vectors see:
// loops over runs are what compilers can turn into packing instructions.
template <class D, class S>
inline void convert_run(D* __restrict to, const S* __restrict from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = D(from[i]);
}

// The taps of a window as the channel loops want them: in registers where their number K is known.
template <class T, int K>
struct Places {
  T* at[K];
  int32_t number[K];
  Places(T* x, const Taps& taps) {
    for (int t = 0; t < K; ++t) at[t] = x + taps.offset[t], number[t] = taps.tap[t];
  }
  int64_t n() const { return K; }
  T* operator[](int64_t t) const { return at[t]; }
  int32_t tap(int64_t t) const { return number[t]; }
};

template <class T>
struct Places<T, 0> {
  T* x;
  const Taps& taps;
  Places(T* base, const Taps& list) : x(base), taps(list) {}
  int64_t n() const { return taps.n; }
  T* operator[](int64_t t) const { return x + taps.offset[t]; }
  int32_t tap(int64_t t) const { return taps.tap[t]; }
};

// One window; K taps where that is known.
template <class T, int K, bool indexed>
inline void max_window(const T* x, const Taps& taps, int64_t channels, T* y, Int<T>* index) {
  const Places<const T, K> places(x, taps);
  for_vectors<T>(channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    Vec<T> best = load_some(places[0] + c, n);
    Vec<Int<T>> at = broadcast<Int<T>>(places.tap(0));
    for (int64_t t = 1; t < places.n(); ++t) {
      const Vec<T> v = load_some(places[t] + c, n);
      const auto wins = (v > best) | (v != v);
      best = wins ? v : best;
      at = wins ? broadcast<Int<T>>(places.tap(t)) : at;
    }
    store_some(y + c, best, n);
    if (indexed) store_some<Int<T>>(index + c, at, n);
  });
}

template <class T, int K>
inline void sum_window(const T* x, const Taps& taps, int64_t channels, T* y, bool average) {
  const Places<const T, K> places(x, taps);
  const T count = T(average ? places.n() : 1);
  for_vectors<T>(channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    Vec<T> sum = load_some(places[0] + c, n);
    for (int64_t t = 1; t < places.n(); ++t) sum += load_some(places[t] + c, n);
    store_some(y + c, count == 1 ? sum : sum / count, n);
  });
}

// dx at the taps of one window: += where windows overlap, else =.
template <class T, int K, bool apart>
inline void window_grad(T* dx, const Taps& taps, int64_t channels, const T* dy, const Int<T>* index,
                        bool average) {
  const Places<T, K> places(dx, taps);
  const T count = T(average ? places.n() : 1);
  for_vectors<T>(channels, [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    Vec<T> g = load_some(dy + c, n);
    if (count != 1) g /= count;
    Vec<Int<T>> at{};
    if (index) at = load_some<Int<T>>(index + c, n);
    for (int64_t t = 0; t < places.n(); ++t) {
      T* to = places[t] + c;
      Vec<T> v = !index ? g : at == broadcast<Int<T>>(places.tap(t)) ? g : Vec<T>{};
      if (!apart) v += load_some<T>(to, n);
      store_some(to, v, n);
    }
  });
}

// Chooses the window function for the number of taps of the lists most in use.
template <class F>
inline void with_taps(int64_t n, F&& f) {
  switch (n) {
    case 2:
      return f.template operator()<2>();
    case 3:
      return f.template operator()<3>();
    case 4:
      return f.template operator()<4>();
    case 9:
      return f.template operator()<9>();
    default:
      return f.template operator()<0>();
  }
}

int64_t run_bytes(const Call& call, const Pool& p) {
  return call.n_tensors < 3 ? 0 : (p.block > kRun ? p.block : kRun) * 8;
}

// The index is moved to and from scratch in one place, so only that is about its type.
template <class T>
struct Walk {
  const Call& call;
  const Pool& p;
  bool gradient;
  Taps taps;
  Int<T>* run_of_taps;

  Walk(const Call& c, const Pool& pool, bool grad, char* scratch)
      : call(c), p(pool), gradient(grad), taps{} {
    run_of_taps = reinterpret_cast<Int<T>*>(scratch);
    taps.offset = reinterpret_cast<int64_t*>(scratch + run_bytes(call, p));
    taps.tap = reinterpret_cast<int32_t*>(taps.offset + p.taps);
  }

  const Tensor& x() const { return call.tensors[gradient ? 0 : call.n_tensors - 1]; }
  const Tensor& y() const { return call.tensors[gradient ? 1 : 0]; }
  const Tensor& index() const { return call.tensors[gradient ? 2 : 1]; }

  // Windows [begin, end) of a row, which share the taps; x, y and index are those of window 0.
  template <int K>
  void windows(Range q, T* x, T* y, char* index, int64_t channels) const {
    const int64_t most = index && channels ? (kRun > channels ? kRun / channels : 1) : q.size();
    for (int64_t w = q.begin; w < q.end; w += most) {
      const Range part = {w, w + most < q.end ? w + most : q.end};
      if (index && gradient) move_index(part, index, channels);
      for (int64_t i = part.begin; i < part.end; ++i)
        window<K>(x + i * p.stride[2] * p.x.axis[2], y + i * p.y.axis[2],
                  index ? run_of_taps + (i - w) * channels : nullptr, channels);
      if (index && !gradient) move_index(part, index, channels);
    }
  }

  template <int K>
  void window(T* x, T* y, Int<T>* index, int64_t channels) const {
    const bool average = p.kind == kAverage;
    if (gradient && p.apart)
      window_grad<T, K, true>(x, taps, channels, y, index, average);
    else if (gradient)
      window_grad<T, K, false>(x, taps, channels, y, index, average);
    else if (p.kind != kMax)
      sum_window<T, K>(x, taps, channels, y, average);
    else if (index)
      max_window<T, K, true>(x, taps, channels, y, index);
    else
      max_window<T, K, false>(x, taps, channels, y, nullptr);
  }

  // Between the index and the run in scratch, for the windows q.
  void move_index(Range q, char* from, int64_t channels) const {
    if (index().dtype == DType::u8)
      move_index(q, reinterpret_cast<uint8_t*>(from), channels);
    else
      move_index(q, reinterpret_cast<int32_t*>(from), channels);
  }

  template <class I>
  void move_index(Range q, I* index, int64_t channels) const {
    const bool dense = p.index.axis[2] == channels;
    const int64_t n = dense ? q.size() * channels : channels;
    for (int64_t w = q.begin; w < (dense ? q.begin + 1 : q.end); ++w) {
      I* there = index + w * p.index.axis[2];
      Int<T>* here = run_of_taps + (w - q.begin) * channels;
      gradient ? convert_run(here, there, n) : convert_run(there, here, n);
    }
  }

  void row(int64_t n, int64_t a, int64_t b, int64_t c, int64_t channels) {
    Range r[3] = {inside(p, 0, a), inside(p, 1, b), {0, 0}};
    T* px = x().template as<T>() + n * p.x.batch + c +
            (a * p.stride[0] - p.before[0]) * p.x.axis[0] +
            (b * p.stride[1] - p.before[1]) * p.x.axis[1] - p.before[2] * p.x.axis[2];
    T* py = y().template as<T>() + n * p.y.batch + a * p.y.axis[0] + b * p.y.axis[1] + c;
    char* pi = nullptr;
    if (call.n_tensors == 3)
      pi = index().data + (n * p.index.batch + a * p.index.axis[0] + b * p.index.axis[1] + c) *
                              size_of(index().dtype);
    for (int64_t w = 0; w < p.out[2];) {
      r[2] = inside(p, 2, w);
      list(p, r, taps);
      const int64_t first = w * p.stride[2] - p.before[2];
      int64_t end = w + 1;
      if (r[2].size() == p.size[2])
        end = w + 1 + (p.in[2] - p.size[2] - first) / p.stride[2];  // the rest that lies inside
      end = end < p.out[2] ? end : p.out[2];
      with_taps(taps.n, [&]<int K>() { windows<K>({w, end}, px, py, pi, channels); });
      w = end;
    }
  }

  void zero(int64_t n, Range planes, int64_t c, int64_t channels) const {
    for (int64_t a = planes.begin; a < planes.end; ++a)
      for (int64_t b = 0; b < p.in[1]; ++b) {
        T* to = x().template as<T>() + n * p.x.batch + a * p.x.axis[0] + b * p.x.axis[1] + c;
        const bool dense = p.x.axis[2] == channels;
        for (int64_t w = 0; w < (dense ? 1 : p.in[2]); ++w)
          std::memset(to + w * p.x.axis[2], 0, (dense ? p.in[2] : 1) * channels * sizeof(T));
      }
  }

  // The first plane that belongs to window a or a later one.
  int64_t first_plane(int64_t a) const {
    if (a == 0) return 0;
    const int64_t first = a * p.stride[0] - p.before[0];
    return a >= p.out[0] || first > p.in[0] ? p.in[0] : first < 0 ? 0 : first;
  }

  void plane(int64_t n, int64_t a) {
    if (gradient) {
      const Range owned = {first_plane(a), first_plane(a + 1)};
      const bool tiled = p.tiled[1] && p.tiled[2];
      const int64_t covered = a * p.stride[0] - p.before[0] + p.size[0];
      if (!tiled)
        zero(n, owned, 0, p.channels);
      else if (owned.end > covered)
        zero(n, {covered, owned.end}, 0, p.channels);
    }
    for (int64_t b = 0; b < p.out[1]; ++b) row(n, a, b, 0, p.channels);
  }

  void overlapping(int64_t n, int64_t c) {
    const int64_t channels = p.channels - c < p.block ? p.channels - c : p.block;
    int64_t zeroed = 0;
    for (int64_t a = 0; a < p.out[0]; ++a) {
      int64_t reach = a * p.stride[0] - p.before[0] + p.size[0];
      if (reach > p.in[0] || a + 1 == p.out[0]) reach = p.in[0];
      if (reach > zeroed) zero(n, {zeroed, reach}, c, channels), zeroed = reach;
      for (int64_t b = 0; b < p.out[1]; ++b) row(n, a, b, c, channels);
    }
  }

  void run(int64_t begin, int64_t end) {
    const int64_t last = end * p.per_part < p.units ? end * p.per_part : p.units;
    for (int64_t u = begin * p.per_part; u < last; ++u) {
      if (gradient && !p.apart)
        overlapping(u / p.blocks, u % p.blocks * p.block);
      else
        plane(u / p.out[0], u % p.out[0]);
    }
  }
};

const char* plan(const Call& call, bool gradient, Work& work) {
  Pool p;
  if (const char* wrong = make(call, gradient, p)) return wrong;
  work.prepared_bytes = sizeof p;
  if (call.prepared) std::memcpy(call.prepared, &p, sizeof p);
  work.parts[0] = p.parts;
  work.outputs = gradient ? 1 : call.n_tensors - 1;
  work.scratch_bytes = run_bytes(call, p) + p.taps * 12;
  work.flops =
      double(call.n_tensors) * p.taps * count(call.tensors[gradient], 0, call.tensors[0].rank);
  for (int i = 0; i < call.n_tensors; ++i)
    work.bytes +=
        double(count(call.tensors[i], 0, call.tensors[i].rank)) * size_of(call.tensors[i].dtype);
  return nullptr;
}

void run(const Call& call, bool gradient, int64_t begin, int64_t end, char* scratch) {
  Pool fresh;
  if (!call.prepared) make(call, gradient, fresh);
  const Pool& p = call.prepared ? *static_cast<const Pool*>(call.prepared) : fresh;
  if (call.tensors[0].dtype == DType::f32)
    Walk<float>(call, p, gradient, scratch).run(begin, end);
  else
    Walk<double>(call, p, gradient, scratch).run(begin, end);
}

}  // namespace

const char* plan_pool(const Call& call, Work& work) { return plan(call, false, work); }

void run_pool(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  run(call, false, begin, end, scratch);
}

const char* plan_pool_grad(const Call& call, Work& work) { return plan(call, true, work); }

void run_pool_grad(const Call& call, int, int64_t begin, int64_t end, char* scratch) {
  run(call, true, begin, end, scratch);
}

}  // namespace dl::DL_LEVEL
