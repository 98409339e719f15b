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
// A thread makes a pack of channels of one result. That of the gradient asks the windows that cover
// it, in their order: nothing is written twice, so there is neither zeroing nor an atomic.
#include "cuda/elements.cuh"

#include "common/pool.h"

namespace dl::cuda {

namespace {

constexpr int kThreads = 256;

struct Image {
  char* data;
  int64_t batch, axis[3];  // strides
};

struct Pool : PoolWindows {
  bool narrow, indexed;  // the index is u8; there is one
  Image x, y, index;
};

struct Range {
  int64_t begin, end;
};

// Taps of window `at` along an axis that lie inside.
__device__ inline Range inside(const Pool& p, int axis, int64_t at) {
  const int64_t first = at * p.stride[axis] - p.before[axis], left = p.in[axis] - first;
  return {first < 0 ? -first : 0, left < p.size[axis] ? left : p.size[axis]};
}

__device__ inline int64_t taps_inside(const Pool& p, int64_t a, int64_t b, int64_t c) {
  const Range i = inside(p, 0, a), j = inside(p, 1, b), k = inside(p, 2, c);
  return (i.end - i.begin) * (j.end - j.begin) * (k.end - k.begin);
}

// Windows of an axis that cover element h.
__device__ inline Range covering(const Pool& p, int axis, int64_t h) {
  const int64_t last = h + p.before[axis], first = last - p.size[axis];
  const int64_t begin = first < 0 ? 0 : first / p.stride[axis] + 1, end = last / p.stride[axis] + 1;
  return {begin, end < p.out[axis] ? end : p.out[axis]};
}

// Where the thread's i-th pack of an array of `shape` lies: image, three axes, channel.
struct Spot {
  int64_t n, at[3], c;

  __device__ Spot(int64_t i, const int64_t (&shape)[3], int64_t channels, int V) {
    const auto next = [&i](int64_t size) {
      const int64_t q = i / size, r = i - q * size;
      i = q;
      return r;
    };
    c = next(channels / V) * V;
    at[2] = next(shape[2]), at[1] = next(shape[1]), at[0] = next(shape[0]);
    n = i;
  }

  __device__ int64_t offset(const Image& m) const {
    return n * m.batch + at[0] * m.axis[0] + at[1] * m.axis[1] + at[2] * m.axis[2] + c;
  }
};

template <class T, int V>
__device__ inline Pack<T, V>& pack_at(const Image& m, int64_t offset) {
  return *reinterpret_cast<Pack<T, V>*>(reinterpret_cast<T*>(m.data) + offset);
}

// Elements that are stored as E.
template <class E, int V>
__device__ inline Pack<Computed<E>, V> load_at(const Image& m, int64_t offset) {
  return load_stored<V>(reinterpret_cast<const E*>(m.data) + offset);
}

template <class E, int V>
__device__ inline void store_at(const Image& m, int64_t offset, const Pack<Computed<E>, V>& x) {
  store_stored<V>(reinterpret_cast<E*>(m.data) + offset, x);
}

template <int V>
__device__ inline void store_taps(const Pool& p, int64_t offset, const int32_t (&tap)[V]) {
  if (p.narrow) {
    Pack<uint8_t, V>& to = pack_at<uint8_t, V>(p.index, offset);
#pragma unroll
    for (int v = 0; v < V; ++v) to.v[v] = static_cast<uint8_t>(tap[v]);
  } else {
    Pack<int32_t, V>& to = pack_at<int32_t, V>(p.index, offset);
#pragma unroll
    for (int v = 0; v < V; ++v) to.v[v] = tap[v];
  }
}

template <class E, int V>
__device__ inline void pool_window(const Pool& p, const Spot& spot) {
  using T = Computed<E>;
  const Range i = inside(p, 0, spot.at[0]), j = inside(p, 1, spot.at[1]),
              k = inside(p, 2, spot.at[2]);
  int64_t at = spot.n * p.x.batch + spot.c;
#pragma unroll
  for (int a = 0; a < 3; ++a) at += (spot.at[a] * p.stride[a] - p.before[a]) * p.x.axis[a];
  Pack<T, V> y{};
  int32_t tap[V]{};
  bool first = true;
  for (int64_t a = i.begin; a < i.end; ++a)
    for (int64_t b = j.begin; b < j.end; ++b) {
#pragma unroll 4
      for (int64_t c = k.begin; c < k.end; ++c) {
        const Pack<T, V> x =
            load_at<E, V>(p.x, at + a * p.x.axis[0] + b * p.x.axis[1] + c * p.x.axis[2]);
        const int32_t here = static_cast<int32_t>((a * p.size[1] + b) * p.size[2] + c);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const T value = x.v[v];
          if (p.kind != kMax) {
            y.v[v] += value;
          } else if (first || value > y.v[v] || value != value) {
            y.v[v] = value, tap[v] = here;
          }
        }
        first = false;
      }
    }
  if (p.kind == kAverage) {
    const T n = static_cast<T>(taps_inside(p, spot.at[0], spot.at[1], spot.at[2]));
#pragma unroll
    for (int v = 0; v < V; ++v) y.v[v] /= n;
  }
  store_at<E, V>(p.y, spot.offset(p.y), y);
  if (p.indexed) store_taps<V>(p, spot.offset(p.index), tap);
}

template <class E, int V>
__global__ void __launch_bounds__(kThreads) pool(const __grid_constant__ Pool p, int64_t packs) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs;
       i += int64_t{gridDim.x} * kThreads)
    pool_window<E, V>(p, Spot(i, p.out, p.channels, V));
}

template <int V>
__device__ inline void load_taps(const Pool& p, int64_t offset, int32_t (&tap)[V]) {
  if (p.narrow) {
    const Pack<uint8_t, V> from = pack_at<uint8_t, V>(p.index, offset);
#pragma unroll
    for (int v = 0; v < V; ++v) tap[v] = from.v[v];
  } else {
    const Pack<int32_t, V> from = pack_at<int32_t, V>(p.index, offset);
#pragma unroll
    for (int v = 0; v < V; ++v) tap[v] = from.v[v];
  }
}

// What window (a, b, c) adds to the element at `spot`.
template <class E, int V>
__device__ inline void add_window(const Pool& p, const Spot& spot, int64_t a, int64_t b, int64_t c,
                                  Pack<Computed<E>, V>& dx) {
  using T = Computed<E>;
  const Spot window = [&] {
    Spot w = spot;
    w.at[0] = a, w.at[1] = b, w.at[2] = c;
    return w;
  }();
  Pack<T, V> g = load_at<E, V>(p.y, window.offset(p.y));
  if (p.kind == kMax) {
    int64_t mine = 0;
#pragma unroll
    for (int d = 0; d < 3; ++d)
      mine = mine * p.size[d] + spot.at[d] + p.before[d] - window.at[d] * p.stride[d];
    int32_t tap[V];
    load_taps<V>(p, window.offset(p.index), tap);
#pragma unroll
    for (int v = 0; v < V; ++v) g.v[v] = tap[v] == static_cast<int32_t>(mine) ? g.v[v] : T(0);
  } else if (p.kind == kAverage) {
    const T n = static_cast<T>(taps_inside(p, a, b, c));
#pragma unroll
    for (int v = 0; v < V; ++v) g.v[v] /= n;
  }
#pragma unroll
  for (int v = 0; v < V; ++v) dx.v[v] += g.v[v];
}

template <class E, int V>
__global__ void __launch_bounds__(kThreads)
    pool_grad(const __grid_constant__ Pool p, int64_t packs) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs;
       i += int64_t{gridDim.x} * kThreads) {
    const Spot spot(i, p.in, p.channels, V);
    const Range ra = covering(p, 0, spot.at[0]), rb = covering(p, 1, spot.at[1]),
                rc = covering(p, 2, spot.at[2]);
    Pack<Computed<E>, V> dx{};
    for (int64_t a = ra.begin; a < ra.end; ++a)
      for (int64_t b = rb.begin; b < rb.end; ++b)
        for (int64_t c = rc.begin; c < rc.end; ++c) add_window<E, V>(p, spot, a, b, c, dx);
    store_at<E, V>(p.x, spot.offset(p.x), dx);
  }
}

constexpr int kPlace[4][3] = {{}, {2}, {1, 2}, {0, 1, 2}};  // of spatial axes in Image

Image image(const Tensor& t, int d) {
  Image m{t.data, t.stride[0], {0, 0, 0}};
  for (int i = 0; i < d; ++i) m.axis[kPlace[d][i]] = t.stride[1 + i];
  return m;
}

const char* make(const Call& call, bool gradient, Pool& p) {
  if (const char* wrong = read_pool(call, gradient, kPlace, p)) return wrong;
  const auto [x, y, index] = pool_operands(call, gradient);
  p.x = image(x, x.rank - 2), p.y = image(y, x.rank - 2);
  p.indexed = index != nullptr;
  if (index) p.index = image(*index, x.rank - 2), p.narrow = index->dtype == DType::u8;
  return nullptr;
}

// Do packs of V channels, `bytes` of them, lie whole and aligned?
bool is_packed(const Image& m, int V, int64_t bytes) {
  bool packed = is_aligned(m.data, static_cast<size_t>(bytes)) && m.batch % V == 0;
  for (int a = 0; a < 3; ++a) packed &= m.axis[a] % V == 0;
  return packed;
}

template <class E>
cudaError_t start(const Pool& p, bool gradient, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(E);
  const bool wide = p.channels % V == 0 && is_packed(p.x, V, 16) && is_packed(p.y, V, 16) &&
                    (!p.indexed || is_packed(p.index, V, p.narrow ? V : 4 * V));
  const int64_t (&shape)[3] = gradient ? p.in : p.out;
  const int64_t packs = p.batch * shape[0] * shape[1] * shape[2] * (p.channels / (wide ? V : 1));
  const auto kernel =
      gradient ? (wide ? pool_grad<E, V> : pool_grad<E, 1>) : (wide ? pool<E, V> : pool<E, 1>);
  return launch(kernel, grid_for(packs, kThreads), kThreads, 0, stream, p, packs);
}

const char* plan(const Call& call, bool gradient, Work& work) {
  Pool p{};
  if (const char* wrong = make(call, gradient, p)) return wrong;
  work.outputs = gradient ? 1 : call.n_tensors - 1;
  const Tensor& y = call.tensors[gradient];
  work.flops = static_cast<double>(call.n_tensors) * static_cast<double>(p.taps) *
               static_cast<double>(count(y, 0, y.rank));
  for (int i = 0; i < call.n_tensors; ++i) {
    const Tensor& t = call.tensors[i];
    work.bytes += static_cast<double>(count(t, 0, t.rank)) * static_cast<double>(size_of(t.dtype));
  }
  return nullptr;
}

cudaError_t start(const Call& call, bool gradient, cudaStream_t stream) {
  Pool p{};
  make(call, gradient, p);
  const DType dtype = call.tensors[0].dtype;
  if (dtype == DType::f64) return start<double>(p, gradient, stream);
  return with_storage<float>(dtype,
                             [&](auto kind) { return start<decltype(kind)>(p, gradient, stream); });
}

}  // namespace

const char* plan_pool(const Call& call, Work& work) { return plan(call, false, work); }

cudaError_t launch_pool(const Call& call, cudaStream_t stream) {
  return start(call, false, stream);
}

const char* plan_pool_grad(const Call& call, Work& work) { return plan(call, true, work); }

cudaError_t launch_pool_grad(const Call& call, cudaStream_t stream) {
  return start(call, true, stream);
}

}  // namespace dl::cuda
