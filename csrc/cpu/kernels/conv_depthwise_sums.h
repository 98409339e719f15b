// The filter gradient of some channels of a depthwise convolution: conv_depthwise.h.
//
//   for each line of up to kLinePixels pixels
//     for each block of up to 3 x 3 taps
//       for each vector of channels        9 sums in registers, over the line
#pragma once

#include "cpu/kernels/conv_depthwise.h"

namespace dl::DL_LEVEL {

constexpr int64_t kLinePixels = 14;  // three rows of inputs and one of dy stay in L1

template <class T>
struct TapSums {
  const T* x;               // of the first pixel and tap
  int64_t pixel, row, col;  // between the inputs of pixels, and of taps
  const T* dy;
  int64_t dy_pixel, pixels, channels;
  T* dw;
  int64_t dw_row, dw_col;
  int64_t next_x, next_dy;  // what the line below will read first
};

template <class T, int R, int S>
void sum_taps(const TapSums<T>& block) {
  const TapSums<T> t = block;  // no store can change it
  for (int64_t c = 0; c < t.channels; c += kLanes<T>) {
    Vec<T> sum[R][S];
    T* const dw = t.dw + c;
#pragma GCC unroll 3
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
      for (int s = 0; s < S; ++s) sum[r][s] = load(dw + r * t.dw_row + s * t.dw_col);
    }
    const T *x = t.x + c, *dy = t.dy + c;
    for (int64_t i = 0; i < t.pixels; ++i, x += t.pixel, dy += t.dy_pixel) {
      if (c % (64 / static_cast<int64_t>(sizeof(T))) == 0) {
        __builtin_prefetch(x + t.next_x);
        __builtin_prefetch(dy + t.next_dy);
      }
      const Vec<T> d = load(dy);
#pragma GCC unroll 3
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
        for (int s = 0; s < S; ++s) sum[r][s] += load(x + r * t.row + s * t.col) * d;
      }
    }
#pragma GCC unroll 3
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
      for (int s = 0; s < S; ++s) store(dw + r * t.dw_row + s * t.dw_col, sum[r][s]);
    }
  }
}

template <class T>
void (*find_taps(int64_t rows, int64_t cols))(const TapSums<T>&) {
  static constexpr void (*kTaps[3][3])(const TapSums<T>&) = {
      {sum_taps<T, 1, 1>, sum_taps<T, 1, 2>, sum_taps<T, 1, 3>},
      {sum_taps<T, 2, 1>, sum_taps<T, 2, 2>, sum_taps<T, 2, 3>},
      {sum_taps<T, 3, 1>, sum_taps<T, 3, 2>, sum_taps<T, 3, 3>}};
  return kTaps[rows - 1][cols - 1];
}

template <class T>
class DepthwiseSums {
 public:
  DepthwiseSums(const Call& call, const Conv& c)
      : c_(c),
        x_(call.tensors[c.n_out].as<const T>()),
        dy_(call.tensors[c.n_out + 1].as<const T>()),
        in_(image_strides(call.tensors[c.n_out])),
        out_(image_strides(call.tensors[c.n_out + 1])) {}

  // Of rows [begin, end) of all images, channels [col, col + cols), to dw: a row of Conv::group for
  // each tap.
  void sum(int64_t col, int64_t cols, int64_t begin, int64_t end, T* dw) const {
    fill_zero(dw, c_.k_most * c_.group);
    each_image(c_.axis[1].out, begin, end, [&](int64_t n, int64_t p0, int64_t p1) {
      each_line(c_.axis, n, p0, p1, kLinePixels,
                [&](const Line& line) { add(line, col, cols, dw); });
    });
  }

 private:
  void add(const Line& line, int64_t col, int64_t cols, T* dw) const {
    const ConvAxis &h = c_.axis[1], &v = c_.axis[2];
    TapSums<T> t{};
    t.pixel = line.down ? h.stride * in_.axis[1] : v.stride * in_.axis[2];
    t.row = h.dilation * in_.axis[1], t.col = v.dilation * in_.axis[2];
    t.dy = dy_ + line.n * out_.n + line.p * out_.axis[1] + line.q * out_.axis[2] + col;
    t.dy_pixel = line.down ? out_.axis[1] : out_.axis[2];
    t.pixels = line.pixels, t.channels = cols;
    t.dw_row = v.taps * c_.group, t.dw_col = c_.group;
    t.next_x = line.down ? 0 : (line.taps.r1 - line.taps.r0 - 1) * t.row + h.stride * in_.axis[1];
    t.next_dy = line.down ? 0 : out_.axis[1];
    const T* const x = x_ + line.n * in_.n + (line.p * h.stride - h.pad) * in_.axis[1] +
                       (line.q * v.stride - v.pad) * in_.axis[2] + col;
    for (int64_t r = line.taps.r0, rows; r < line.taps.r1; r += rows) {
      rows = least(3, line.taps.r1 - r);
      for (int64_t s = line.taps.s0, taps; s < line.taps.s1; s += taps) {
        taps = least(3, line.taps.s1 - s);
        t.x = x + r * t.row + s * t.col;
        t.dw = dw + r * t.dw_row + s * t.dw_col;
        find_taps<T>(rows, taps)(t);
      }
    }
  }

  const Conv& c_;
  const T *x_, *dy_;
  Strides in_, out_;
};

}  // namespace dl::DL_LEVEL
