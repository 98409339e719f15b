// Convolutions whose groups are single channels, and their gradients. With M filters for a channel:
//
//   y[pixel, k] = sum over taps      x[pixel at tap, k / M] w[tap, k]
//   dx[pixel, c] = sum over taps, m  dy[pixel at tap, c M + m] w[tap, c M + m]
//   dw[tap, k] = sum over pixels     x[pixel at tap, k / M] dy[pixel, k]
//
// Memory is the limit: neighbouring threads make neighbouring channels, and what they read again
// lies in the caches. dw is cut along the pixels; partial sums are added in order.
#pragma once

#include "cuda/conv.cuh"

namespace dl::cuda {

constexpr int kDepthThreads = 256, kDepthLanes = 32;

struct Depthwise {
  const char *image, *w;  // dw: x and dy
  IndexMap pixel, tap;    // of the image
  int64_t filter[3];      // strides of the taps of w; dw: n/a
  IndexMap other;         // dw: pixels of dy
  int limit[3], taps[3];
  int64_t rows, cols, multiplier, c_stride, k_stride;
  bool back;
  int64_t parts, part;  // dw: of the pixels, and how many are in one
};

__device__ inline bool is_inside(const Depthwise& d, const Spot& x, const Spot& tap) {
  bool all = true;
#pragma unroll
  for (int i = 0; i < 3; ++i)
    all &= static_cast<unsigned>(x.at[i] + tap.at[i]) < static_cast<unsigned>(d.limit[i]);
  return all;
}

// E: how the operands are stored.
template <class T, class E>
__device__ inline T sum_taps(const Depthwise& d, int64_t row, int64_t col) {
  const Spot at = d.pixel.spot(static_cast<uint32_t>(row));
  const int64_t inner = d.back ? d.multiplier : 1, k = d.back ? col * d.multiplier : col;
  const int64_t channel = d.back ? k : col / d.multiplier;
  const E* image = reinterpret_cast<const E*>(d.image) + at.offset + channel * d.c_stride;
  const E* w = reinterpret_cast<const E*>(d.w) + k * d.k_stride;
  const int taps = d.taps[0] * d.taps[1] * d.taps[2];
  T sum = 0;
  for (int t = 0; t < taps; ++t) {
    const Spot tap = d.tap.spot(t);
    if (!is_inside(d, at, tap)) continue;
    const int64_t filter = t / d.taps[2] / d.taps[1] * d.filter[0] +
                           t / d.taps[2] % d.taps[1] * d.filter[1] + t % d.taps[2] * d.filter[2];
    for (int64_t m = 0; m < inner; ++m)
      sum += static_cast<T>(image[tap.offset + m * d.c_stride]) *
             static_cast<T>(w[filter + m * d.k_stride]);
  }
  return sum;
}

template <class T, class E>
__global__ void __launch_bounds__(kDepthThreads)
    depthwise(const __grid_constant__ Depthwise d, const __grid_constant__ Results r) {
  using P = Pack<T, 1>;
  DL_SHARED(P, registers);
  const int64_t size = d.rows * d.cols, step = int64_t{gridDim.x} * kDepthThreads;
  for (int64_t i = int64_t{blockIdx.x} * kDepthThreads + threadIdx.x; i < size; i += step) {
    const int64_t row = i / d.cols, col = i % d.cols;
    const P sum{{sum_taps<T, E>(d, row, col)}};
    store_sums<T, 1>(r, sum, row, col, d.cols, registers + threadIdx.x, kDepthThreads);
  }
}

// Partial sums (parts, taps, K). A block: kDepthLanes filters of one tap and part.
template <class T, class E>
__global__ void __launch_bounds__(kDepthThreads)
    depthwise_filter(const __grid_constant__ Depthwise d, T* partial) {
  constexpr int kRows = kDepthThreads / kDepthLanes;
  __shared__ T sums[kRows][kDepthLanes];
  const int lane = threadIdx.x % kDepthLanes, row = threadIdx.x / kDepthLanes;
  const int64_t blocks = ceil_div(d.cols, kDepthLanes), taps = d.taps[0] * d.taps[1] * d.taps[2];
  const int64_t k = blockIdx.x % blocks * kDepthLanes + lane;
  const int64_t tap = blockIdx.x / blocks % taps, part = blockIdx.x / blocks / taps;
  const Spot at = d.tap.spot(static_cast<uint32_t>(tap));
  const int64_t end = min(d.rows, (part + 1) * d.part);
  T sum = 0;
  if (k < d.cols) {
    const E* x = reinterpret_cast<const E*>(d.image) + at.offset + k / d.multiplier * d.c_stride;
    const E* dy = reinterpret_cast<const E*>(d.w) + k * d.k_stride;
    for (int64_t i = part * d.part + row; i < end; i += kRows) {
      const Spot pixel = d.pixel.spot(static_cast<uint32_t>(i));
      if (is_inside(d, pixel, at))
        sum += static_cast<T>(x[pixel.offset]) *
               static_cast<T>(dy[d.other.spot(static_cast<uint32_t>(i)).offset]);
    }
  }
  sums[row][lane] = sum;
  __syncthreads();
  if (row > 0 || k >= d.cols) return;
  for (int i = 1; i < kRows; ++i) sum += sums[i][lane];
  partial[(part * taps + tap) * d.cols + k] = sum;
}

inline Depthwise depthwise_of(const ConvCall& c, const ConvPhase (&phase)[3], const Tensor& image) {
  const Strides in = image_strides(image);
  Depthwise d{};
  d.image = image.data + first_pixel(phase, in) * size_of(image.dtype);
  d.pixel = pixel_map(phase, in), d.tap = tap_map(phase, in, 1);
  for (int i = 0; i < 3; ++i) {
    d.limit[i] = static_cast<int>(phase[i].axis.in);
    d.taps[i] = static_cast<int>(phase[i].axis.taps);
  }
  d.rows = c.batch * phase[0].axis.out * phase[1].axis.out * phase[2].axis.out;
  d.multiplier = c.filters, d.c_stride = in.c;
  return d;
}

template <class T>
cudaError_t start_depthwise(const ConvCall& c, const ConvPhase (&phase)[3], const Tensor& image,
                            const Tensor& w, const Results& r, cudaStream_t stream) {
  const Strides f = filter_strides(w);
  Depthwise d = depthwise_of(c, phase, image);
  d.w = w.data + first_tap(phase, f) * size_of(w.dtype);
  for (int i = 0; i < 3; ++i) d.filter[i] = phase[i].filter_step * f.axis[i];
  d.back = c.task == Task::input_grad;
  d.cols = r.cols, d.k_stride = f.k;
  const size_t shared = registers_bytes<T, 1>(r.e, kDepthThreads);
  return with_storage<T>(image.dtype, [&](auto kind) {
    const auto kernel = depthwise<T, decltype(kind)>;
    if (const cudaError_t error = allow_shared(kernel, shared)) return error;
    return launch(kernel, grid_for(d.rows * d.cols, kDepthThreads), kDepthThreads, shared, stream,
                  d, r);
  });
}

// Parts of the pixels of a filter gradient.
inline int64_t depthwise_parts(const ConvCall& c) {
  constexpr int64_t kBlocks = 8 * kFullGpu, kShortest = 512;
  const int64_t pixels = c.batch * c.axis[0].out * c.axis[1].out * c.axis[2].out;
  const int64_t each = ceil_div(c.groups * c.filters, kDepthLanes) * c.axis[0].taps *
                       c.axis[1].taps * c.axis[2].taps;
  return max(int64_t{1}, min(kBlocks / max(each, int64_t{1}), pixels / kShortest));
}

template <class T>
cudaError_t start_depthwise_filter(const Call& call, const ConvCall& c, const Results& r,
                                   cudaStream_t stream) {
  const ConvPhase phase[3] = {forward_phase(c.axis[0]), forward_phase(c.axis[1]),
                              forward_phase(c.axis[2])};
  const Tensor& dy = call.tensors[c.e.n_out + 1];
  const Strides out = image_strides(dy);
  Depthwise d = depthwise_of(c, phase, call.tensors[c.e.n_out]);
  d.w = dy.data, d.k_stride = out.c;
  d.other = result_map(phase, out);
  d.cols = r.cols;
  d.parts = depthwise_parts(c), d.part = ceil_div(d.rows, d.parts);
  T* partial = reinterpret_cast<T*>(call.shared);
  const int64_t taps = int64_t{d.taps[0]} * d.taps[1] * d.taps[2];
  const int64_t blocks = ceil_div(d.cols, kDepthLanes) * taps * d.parts;
  const cudaError_t error = with_storage<T>(dy.dtype, [&](auto kind) {
    return launch(depthwise_filter<T, decltype(kind)>, static_cast<unsigned>(blocks), kDepthThreads,
                  0, stream, d, partial);
  });
  if (error) return error;
  return launch_finish<T>(r, partial, static_cast<int>(d.parts), taps, stream);
}

}  // namespace dl::cuda
