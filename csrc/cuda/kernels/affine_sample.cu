// affine_sample: every pixel of out is x read at the place that the matrix of its image names.
//
//   column = m0 j + m1 i + m2, row = m3 j + m4 i + m5    for the pixel (i, j) of out (N, P, Q, C)
//   nearest   out[i, j] = x[round(row), round(column)]
//   bilinear  out[i, j] = the four neighbours weighted by the fractions of row and column
//
// Pixels outside x are the fill value, or found by the fill mode:
//
//   nearest a a | a b c | c c      reflect b a | a b c | c b
//   wrap    b c | a b c | a b      mirror  c b | a b c | b a
//
// Places are fixed-point numbers of 32 fraction bits, as on the CPU: the very same pixels are read.
//
// affine_sample_grad adds dy to the pixels that were read, image by image in the order of the
// pixels: a thread owns a pixel of dx, and its block goes through dy, a piece at a time, of which
// shared memory says which pixels were read with which weights. Warps of dy that read none of the
// block's pixels, nearly all of them, are skipped.
#include "cuda/elements.cuh"

#include "common/affine_sample.h"

namespace dl::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kFractionBits = 32;
constexpr int64_t kOne = int64_t{1} << kFractionBits;
// Entries beyond are cut, so that no sum leaves 64 bits for images of up to 2^15 pixels a side.
constexpr double kMostSlope = 0x1p14, kMostOffset = 0x1p29;

struct Images {
  char* data;
  int64_t shape[4], stride[4];
};

struct Sample {
  Images x, y;  // x is read (or is dx); y are the results (or dy)
  const char* matrix;
  int64_t matrix_stride[2], mode;
  bool bilinear;
  double fill;
};

// The entries of the matrix of image n as fixed-point numbers, by the first threads of a block. NaN
// becomes the least.
template <class T>
__device__ inline void load_matrix(const Sample& p, int64_t n, int64_t (&m)[6]) {
  __syncthreads();  // the last image's may still be in use
  const int k = threadIdx.x;
  if (k < 6) {
    const double most = k % 3 == 2 ? kMostOffset : kMostSlope;
    const double x = static_cast<double>(
        reinterpret_cast<const T*>(p.matrix)[n * p.matrix_stride[0] + k * p.matrix_stride[1]]);
    m[k] = llrint((x > -most ? (x < most ? x : most) : -most) * 0x1p32);
  }
  __syncthreads();
}

// The place of a pixel of y in x. Where row and column are whole, and those of the neighbours,
// nothing is to be weighted: rounding reads the one pixel.
struct Spot {
  int64_t row, column;
  bool bilinear;

  __device__ Spot(const Sample& p, const int64_t (&m)[6], int64_t i, int64_t j) {
    const int64_t first_row = m[4] * i + m[5], first_column = m[1] * i + m[2];
    row = first_row + m[3] * j, column = first_column + m[0] * j;
    const int64_t bits = first_row | first_column | m[3] | m[0];
    bilinear = p.bilinear && (bits & (kOne - 1)) != 0;
    if (!bilinear) row += kOne / 2, column += kOne / 2;
  }

  // Corner k of the four, as row * width + column of x; -1 is the fill value.
  __device__ int64_t pixel(const Sample& p, int k) const {
    const int64_t r = place((row >> kFractionBits) + k / 2, p.x.shape[1], p.mode);
    const int64_t c = place((column >> kFractionBits) + k % 2, p.x.shape[2], p.mode);
    return r < 0 || c < 0 ? -1 : r * p.x.shape[2] + c;
  }
};

template <class T>
__device__ inline T fraction(int64_t place) {  // the 24 or 32 highest bits: exact in T
  const int64_t bits = place & (kOne - 1);
  if constexpr (sizeof(T) == 4) return static_cast<T>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f;
  return static_cast<T>(bits) * static_cast<T>(0x1p-32);
}

// Images are stored as E.
template <class E>
__device__ inline Computed<E> read(const Sample& p, int64_t n, int64_t pixel, int64_t k) {
  if (pixel < 0) return static_cast<Computed<E>>(p.fill);
  const int64_t r = pixel / p.x.shape[2], c = pixel - r * p.x.shape[2];
  return reinterpret_cast<const E*>(
      p.x.data)[n * p.x.stride[0] + r * p.x.stride[1] + c * p.x.stride[2] + k * p.x.stride[3]];
}

template <class E>
__global__ void __launch_bounds__(kThreads) affine_sample(const __grid_constant__ Sample p) {
  using T = Computed<E>;
  __shared__ int64_t m[6];
  const int64_t channels = p.y.shape[3], width = p.y.shape[2],
                elements = p.y.shape[1] * width * channels;
  for (int64_t n = blockIdx.y; n < p.y.shape[0]; n += gridDim.y) {
    load_matrix<T>(p, n, m);
    for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < elements;
         at += int64_t{gridDim.x} * kThreads) {
      const int64_t pixel = at / channels, k = at - pixel * channels;
      const int64_t i = pixel / width, j = pixel - i * width;
      const Spot spot(p, m, i, j);
      T value = read<E>(p, n, spot.pixel(p, 0), k);
      if (spot.bilinear) {
        const T down = fraction<T>(spot.row), right = fraction<T>(spot.column);
        const T b = read<E>(p, n, spot.pixel(p, 1), k), c = read<E>(p, n, spot.pixel(p, 2), k),
                d = read<E>(p, n, spot.pixel(p, 3), k);
        const T top = value + right * (b - value), bottom = c + right * (d - c);
        value = top + down * (bottom - top);
      }
      reinterpret_cast<E*>(
          p.y.data)[n * p.y.stride[0] + i * p.y.stride[1] + j * p.y.stride[2] + k * p.y.stride[3]] =
          E(value);
    }
  }
}

// What a pixel of dy adds to dx.
template <class T>
struct Added {
  int64_t pixel[4];  // -1: none
  T weight[4];
};

template <class T>
__device__ inline Added<T> added_by(const Sample& p, const int64_t (&m)[6], int64_t from) {
  Added<T> a{{-1, -1, -1, -1}, {}};
  const int64_t width = p.y.shape[2];
  if (from >= p.y.shape[1] * width) return a;
  const Spot spot(p, m, from / width, from % width);
  if (!spot.bilinear) {
    a.pixel[0] = spot.pixel(p, 0), a.weight[0] = T(1);
    return a;
  }
  const T down = fraction<T>(spot.row), right = fraction<T>(spot.column);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    a.pixel[k] = spot.pixel(p, k);
    a.weight[k] = (k / 2 ? down : 1 - down) * (k % 2 ? right : 1 - right);
  }
  return a;
}

// A thread's pixel of dx: += weight dy[from], which it alone does.
template <class T>
__device__ inline void add(const Sample& p, int64_t n, T* to, int64_t from, T weight) {
  const int64_t i = from / p.y.shape[2], j = from - i * p.y.shape[2];
  const T* dy = reinterpret_cast<const T*>(p.y.data) + n * p.y.stride[0] + i * p.y.stride[1] +
                j * p.y.stride[2];
  for (int64_t k = 0; k < p.x.shape[3]; ++k)
    to[k * p.x.stride[3]] += weight * dy[k * p.y.stride[3]];
}

template <class T>
__global__ void __launch_bounds__(kThreads) affine_sample_grad(const __grid_constant__ Sample p) {
  __shared__ int64_t m[6];
  __shared__ Added<T> piece[kThreads];
  __shared__ bool hits[kThreads / kWarp];
  const int64_t pixels = p.x.shape[1] * p.x.shape[2], all = p.y.shape[1] * p.y.shape[2];
  const int64_t first = int64_t{blockIdx.x} * kThreads, mine = first + threadIdx.x;
  const int64_t r = mine / p.x.shape[2], c = mine - r * p.x.shape[2];
  for (int64_t n = blockIdx.y; n < p.x.shape[0]; n += gridDim.y) {
    load_matrix<T>(p, n, m);
    T* to =
        reinterpret_cast<T*>(p.x.data) + n * p.x.stride[0] + r * p.x.stride[1] + c * p.x.stride[2];
    if (mine < pixels) {
      for (int64_t k = 0; k < p.x.shape[3]; ++k) to[k * p.x.stride[3]] = 0;
    }
    for (int64_t start = 0; start < all; start += kThreads) {
      const Added<T> a = added_by<T>(p, m, start + threadIdx.x);
      bool here = false;
#pragma unroll
      for (int k = 0; k < 4; ++k) here |= a.pixel[k] >= first && a.pixel[k] < first + kThreads;
      here = __any_sync(kAllLanes, here);
      __syncthreads();  // the piece before has been read
      piece[threadIdx.x] = a;
      if (threadIdx.x % kWarp == 0) hits[threadIdx.x / kWarp] = here;
      __syncthreads();
      for (int w = 0; w < kThreads / kWarp; ++w) {
        if (!hits[w] || mine >= pixels) continue;
        for (int t = w * kWarp; t < (w + 1) * kWarp; ++t) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            if (piece[t].pixel[k] == mine) add<T>(p, n, to, start + t, piece[t].weight[k]);
          }
        }
      }
    }
  }
}

Images images_of(const Tensor& t) {
  Images m{t.data, {}, {}};
  for (int a = 0; a < 4; ++a) m.shape[a] = t.shape[a], m.stride[a] = t.stride[a];
  return m;
}

Sample sample_of(const Call& call, const Tensor& x, const Tensor& y) {
  const Tensor& m = call.tensors[2];
  Sample p{};
  p.x = images_of(x), p.y = images_of(y);
  p.matrix = m.data, p.matrix_stride[0] = m.stride[0], p.matrix_stride[1] = m.stride[1];
  p.bilinear = call.ints[0] == 1, p.mode = call.ints[1], p.fill = call.floats[0];
  return p;
}

unsigned images_at_once(int64_t n) { return static_cast<unsigned>(n < 65535 ? n : 65535); }

void set_cost(const Call& call, const Tensor& y, Work& work) {
  const double pixels = static_cast<double>(count(y, 0, 3));
  const double values = pixels * static_cast<double>(y.shape[3]);
  work.flops = 30 * pixels + 8 * values;
  work.bytes = 2 * values * static_cast<double>(size_of(call.tensors[0].dtype));
}

}  // namespace

const char* plan_affine_sample(const Call& call, Work& work) {
  if (const char* wrong = check_affine_sample(call)) return wrong;
  const Tensor& y = call.tensors[0];
  set_cost(call, y, work);
  return nullptr;
}

cudaError_t launch_affine_sample(const Call& call, cudaStream_t stream) {
  const Tensor& y = call.tensors[0];
  const Sample p = sample_of(call, call.tensors[1], y);
  const dim3 grid(grid_for(count(y, 1, 4), kThreads), images_at_once(y.shape[0]));
  if (y.dtype == DType::f64) return launch(affine_sample<double>, grid, kThreads, 0, stream, p);
  return with_storage<float>(y.dtype, [&](auto kind) {
    return launch(affine_sample<decltype(kind)>, grid, kThreads, 0, stream, p);
  });
}

const char* plan_affine_sample_grad(const Call& call, Work& work) {
  if (const char* wrong = check_affine_sample_grad(call)) return wrong;
  set_cost(call, call.tensors[1], work);
  return nullptr;
}

cudaError_t launch_affine_sample_grad(const Call& call, cudaStream_t stream) {
  const Tensor& dx = call.tensors[0];
  const Sample p = sample_of(call, dx, call.tensors[1]);
  const dim3 grid(static_cast<unsigned>(ceil_div(count(dx, 1, 3), kThreads)),
                  images_at_once(dx.shape[0]));
  return dx.dtype == DType::f32 ? launch(affine_sample_grad<float>, grid, kThreads, 0, stream, p)
                                : launch(affine_sample_grad<double>, grid, kThreads, 0, stream, p);
}

}  // namespace dl::cuda
